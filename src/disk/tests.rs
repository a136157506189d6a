//! A folder with hostile content: no link is followed, no open blocks, no read is unbounded.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::*;

#[cfg(unix)]
mod links {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// Creates a folder with `inside/file`, a secret outside of it, and links of all types to that secret.
    fn lure() -> (tempfile::TempDir, DiskRoot) {
        let home = tempfile::tempdir().unwrap();
        let (data, outside) = (home.path().join("data"), home.path().join("outside"));
        fs::create_dir_all(data.join("inside")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(data.join("inside/file"), "ours").unwrap();
        fs::write(outside.join("file"), "treasure").unwrap();
        symlink(&outside, data.join("absolute")).unwrap();
        symlink("../outside", data.join("relative")).unwrap();
        symlink("inside", data.join("within")).unwrap();
        symlink("../../outside/file", data.join("inside/last")).unwrap();
        symlink(outside.join("new"), data.join("inside/dangling")).unwrap();
        let root = DiskRoot::at(&data);
        (home, root)
    }

    const FOLDERS: [&str; 3] = ["absolute", "relative", "within"];

    #[test]
    fn no_file_is_opened_listed_made_renamed_linked_or_removed_through_a_link() {
        let (home, root) = lure();
        let ours = root.join("inside/file");
        for folder in FOLDERS {
            let file = root.join(folder).join("file");
            assert!(file.open().is_err() && file.look().is_err() && !file.is_file(), "{folder}");
            assert!(root.join(folder).list().is_err(), "{folder}");
            assert!(file.open_own(Missing::IsMade).is_err() && file.open_own_to_append().is_err(), "{folder}");
            assert!(root.join(folder).join("new").create_new(0o600).is_err(), "{folder}");
            assert!(root.join(folder).join("sub").make_folders().is_err(), "{folder}");
            assert!(root.join(folder).make_folders().is_err(), "{folder} is no folder");
            assert!(file.remove().is_err() && root.join(folder).join("x").remove_folder().is_err(), "{folder}");
            assert!(ours.rename(&file).is_err() && file.rename(&ours).is_err(), "{folder}");
            assert!(ours.link(&root.join(folder).join("new")).is_err(), "{folder}");
            assert!(Temporary::in_folder(&root.join(folder)).is_err(), "{folder}");
            assert!(publish_new(&root.join(folder).join("new"), b"x").is_err(), "{folder}");
            assert!(open_lock(&root.join(folder).join("lock")).is_err(), "{folder}");
        }
        for name in ["last", "dangling"] {
            let link = root.join("inside").join(name);
            assert!(link.open().is_err() && link.open_own(Missing::IsMade).is_err(), "{name}");
            assert!(open_lock(&link).is_err() && publish_new(&link, b"x").is_err(), "{name}");
            assert!(link.look().unwrap().unwrap().is_symlink(), "{name}");
        }
        assert!(root.join("inside/last").remove().unwrap(), "a link itself goes");
        let outside = home.path().join("outside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "treasure");
        assert_eq!(fs::read_to_string(home.path().join("data/inside/file")).unwrap(), "ours");
    }

    #[test]
    fn a_kernel_without_openat2_is_walked_and_follows_no_link_either() {
        use rustix::fs::{Mode, OFlags};
        use std::os::fd::AsFd as _;
        let (home, _) = lure();
        let root = unix::root(&home.path().join("data")).unwrap();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |below: &str| {
            unix::walk(root.as_fd(), &unix::steps(Path::new(below))?, flags, Mode::empty()).map(fs::File::from)
        };
        assert_eq!(std::io::read_to_string(open("inside/file").unwrap()).unwrap(), "ours");
        assert!(open("").is_ok(), "the folder itself");
        for below in
            ["absolute/file", "relative/file", "within/file", "inside/last", "inside/dangling", "../outside/file"]
        {
            assert!(open(below).is_err(), "{below}");
        }
    }

    #[test]
    fn where_there_are_no_handles_links_are_refused_too() {
        let (home, _) = lure();
        let root = portable::root(&home.path().join("data")).unwrap();
        let open = |below: &str| portable::open(&root, Path::new(below), open_how::How::Read);
        assert_eq!(std::io::read_to_string(open("inside/file").unwrap().0).unwrap(), "ours");
        for below in
            ["absolute/file", "relative/file", "within/file", "inside/last", "inside/dangling", "../outside/file"]
        {
            assert!(open(below).is_err(), "{below}");
        }
        for folder in FOLDERS {
            assert!(portable::each(&root, Path::new(folder), &mut drop).is_err(), "{folder}");
            assert!(portable::make_folders(&root, &Path::new(folder).join("sub")).is_err(), "{folder}");
            assert!(portable::look(&root, &Path::new(folder).join("file")).is_err(), "{folder}");
        }
        let inside = portable::folder(&root, Path::new("inside")).unwrap();
        portable::make_folders(&root, Path::new("inside/a/b")).unwrap();
        portable::sync(&root, Path::new("inside/a")).unwrap();
        portable::rename_folder((&inside, "a".as_ref()), (&inside, "c".as_ref())).unwrap();
        portable::rename_folder((&inside, "c".as_ref()), (&inside, "a".as_ref())).unwrap();
        assert!(portable::rename_folder((&inside, "file".as_ref()), (&inside, "new".as_ref())).is_err());
        portable::rename_new((&inside, "file".as_ref()), (&inside, "new".as_ref())).unwrap();
        portable::rename((&inside, "new".as_ref()), (&inside, "file".as_ref())).unwrap();
        portable::remove(&inside, "file".as_ref()).unwrap();
        portable::remove_folder(&portable::folder(&root, Path::new("inside/a")).unwrap(), "b".as_ref()).unwrap();
    }

    #[test]
    fn the_folder_that_the_user_named_may_be_a_link() {
        let (home, _) = lure();
        symlink(home.path().join("data"), home.path().join("named")).unwrap();
        let root = DiskRoot::at(home.path().join("named"));
        assert_eq!(root.join("inside/file").read(10).unwrap(), b"ours");
    }

    #[test]
    fn what_is_no_plain_file_is_an_error_at_once() {
        let (home, root) = lure();
        let data = home.path().join("data");
        assert!(std::process::Command::new("mkfifo").arg(data.join("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(data.join("socket")).unwrap();
        let (done, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for name in ["pipe", "socket", "inside"] {
                let place = root.join(name);
                assert!(place.open().is_err() && place.read(9).is_err() && !place.is_file(), "{name}");
                assert!(place.open_own(Missing::IsMade).is_err() && place.open_own_to_append().is_err(), "{name}");
                assert!(open_lock(&place).is_err() && publish_new(&place, b"").is_err(), "{name}");
            }
            done.send(()).unwrap();
        });
        told.recv_timeout(Duration::from_secs(20))
            .expect("nothing waits for the other end of a pipe, and nothing panics");
    }

    #[test]
    fn only_a_folder_is_moved_aside() {
        let (_home, root) = lure();
        root.join("inside/empty").make_folders().unwrap();
        root.join("inside/empty").move_folder(&root.join("inside/moved")).unwrap();
        assert!(root.join("inside/moved").is_folder() && !root.join("inside/empty").is_folder());
        for name in ["file", "last", "dangling", "absent"] {
            let moved = root.join("inside").join(name).move_folder(&root.join("inside/new"));
            assert!(matches!(moved.unwrap_err().kind(), ErrorKind::NotADirectory | ErrorKind::NotFound), "{name}");
        }
        assert!(root.join("absolute").move_folder(&root.join("inside/new")).is_err(), "a link to a folder is none");
        assert!(root.join("inside/file").is_file() && root.join("inside/new").look().unwrap().is_none());
    }

    #[test]
    fn a_file_of_ours_has_no_second_name() {
        let (_home, root) = lure();
        root.join("inside/file").link(&root.join("second")).unwrap();
        assert!(root.join("second").open().is_ok());
        assert!(root.join("second").open_own(Missing::Fails).is_err());
        assert!(root.join("second").open_own_to_append().is_err());
    }

    #[test]
    fn a_lock_is_for_its_owner_alone_or_for_those_who_may_write_to_the_folder() {
        let (home, root) = lure();
        let folder = home.path().join("data/inside");
        let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(&folder, 0o755);
        fs::write(folder.join("lax"), "").unwrap();
        set(&folder.join("lax"), 0o644);
        for name in ["new", "lax"] {
            open_lock(&root.join("inside").join(name)).unwrap();
            assert_eq!(mode(name), 0o600, "{name}");
        }
        set(&folder, 0o775);
        open_lock(&root.join("inside/shared")).unwrap();
        assert_eq!(mode("shared"), 0o660, "the group could rename it all the same");
    }

    #[test]
    fn a_lock_that_has_a_second_name_is_refused_and_its_mode_stays() {
        let (home, root) = lure();
        let foreign = home.path().join("foreign");
        fs::write(&foreign, "").unwrap();
        fs::set_permissions(&foreign, fs::Permissions::from_mode(0o644)).unwrap();
        fs::hard_link(&foreign, home.path().join("data/inside/lock")).unwrap();
        assert!(open_lock(&root.join("inside/lock")).is_err());
        assert_eq!(fs::metadata(&foreign).unwrap().permissions().mode() & 0o777, 0o644);
    }
}

#[test]
fn a_path_that_would_leave_the_folder_is_refused() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("data")).unwrap();
    fs::write(home.path().join("secret"), "x").unwrap();
    let root = DiskRoot::at(home.path().join("data"));
    for below in ["../secret", "a/../../secret", home.path().join("secret").to_str().unwrap()] {
        assert_eq!(root.join(below).open().unwrap_err().kind(), ErrorKind::InvalidInput, "{below}");
    }
}

#[test]
fn what_is_read_into_memory_is_bounded() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), vec![0; 1000]).unwrap();
    let place = DiskRoot::at(home.path()).join("file");
    assert_eq!(place.read(1000).unwrap().len(), 1000);
    assert_eq!(place.read(999).unwrap_err().kind(), ErrorKind::FileTooLarge);
}

#[test]
fn a_file_appears_whole_and_a_temporary_one_goes_with_its_owner() {
    let home = tempfile::tempdir().unwrap();
    let folder = DiskRoot::at(home.path().join("not/there/yet")).join("a/b");
    let names = || folder.list().unwrap().len();
    assert_eq!(names(), 0);
    let mut file = Temporary::in_folder(&folder).unwrap();
    file.write_all(b"first").unwrap();
    assert_eq!(names(), 1);
    publish(file, &folder.join("file")).unwrap();
    drop(Temporary::in_folder(&folder).unwrap());
    publish_new(&folder.join("file"), b"second").unwrap();
    assert_eq!((names(), folder.join("file").read(99).unwrap()), (1, b"first".to_vec()));
    link(&folder.join("file"), &folder.join("c/d")).unwrap();
    assert!(folder.join("file").remove().unwrap() && !folder.join("file").remove().unwrap());
    assert_eq!(folder.join("c/d").read(99).unwrap(), b"first");
}

#[test]
fn a_wait_for_a_lock_has_an_end() {
    let home = tempfile::tempdir().unwrap();
    let place = DiskRoot::at(home.path()).join("lock");
    let held = open_lock(&place).unwrap();
    held.lock().unwrap();
    let other = open_lock(&place).unwrap();
    let error = acquire(&other, Hold::Shared, Duration::from_millis(5)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(held);
    assert!(acquire(&other, Hold::Alone, Duration::from_secs(20)).unwrap());
}
