//! Steps below a handle on a folder; no step follows a link.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::open_how::How;

/// A folder that is kept open. Clones share the handle.
pub(super) type Handle = std::sync::Arc<OwnedFd>;

/// Flags to open a file only to inspect it, or to open something below it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LOOK: OFlags = OFlags::PATH;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const LOOK: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK);

/// Opens the folder that the user names; it may be a link.
pub(super) fn root(path: &Path) -> io::Result<Handle> {
    Ok(rustix::fs::open(path, LOOK | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Opens a folder below `root`.
pub(super) fn folder(root: &Handle, below: &Path) -> io::Result<Handle> {
    Ok(open_at(root.as_fd(), below, LOOK | OFlags::DIRECTORY, Mode::empty())?.into())
}

/// Opens or creates a plain file.
pub(super) fn open(root: &Handle, below: &Path, how: How) -> io::Result<(File, Metadata)> {
    let flags = match how {
        How::Read => OFlags::RDONLY,
        How::Change => OFlags::RDWR,
        How::Append => OFlags::RDWR | OFlags::APPEND,
        How::Make(_) => OFlags::RDWR | OFlags::CREATE,
        How::MakeNew(_) => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
    };
    let mode = match how {
        How::Make(mode) | How::MakeNew(mode) => Mode::from_raw_mode(mode as _),
        How::Read | How::Change | How::Append => Mode::empty(),
    };
    let file = File::from(open_at(root.as_fd(), below, flags | OFlags::NONBLOCK | OFlags::NOCTTY, mode)?);
    let about = file.metadata()?;
    Ok((file, about))
}

/// Returns the metadata of this name; for a link, of the link itself.
pub(super) fn look(root: &Handle, below: &Path) -> io::Result<Metadata> {
    File::from(open_at(root.as_fd(), below, LOOK, Mode::empty())?).metadata()
}

/// Passes the names in a folder to `take`, one by one.
pub(super) fn each(root: &Handle, below: &Path, take: &mut dyn FnMut(OsString)) -> io::Result<()> {
    let folder = open_at(root.as_fd(), below, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK, Mode::empty())?;
    for entry in rustix::fs::Dir::new(folder)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            take(name);
        }
    }
    Ok(())
}

/// Creates a folder and its parents as far as they are missing.
pub(super) fn make_folders(root: &Handle, below: &Path) -> io::Result<()> {
    let mut at = Handle::clone(root);
    for step in steps(below)? {
        match rustix::fs::mkdirat(at.as_fd(), step, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(why) => return Err(why.into()),
        }
        at = folder(&at, Path::new(step))?;
    }
    Ok(())
}

/// Removes a name of any type but a folder; for a link, the link itself.
pub(super) fn remove(folder: &Handle, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(folder.as_fd(), name, AtFlags::empty())?)
}

/// Removes an empty folder.
pub(super) fn remove_folder(folder: &Handle, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(folder.as_fd(), name, AtFlags::REMOVEDIR)?)
}

/// Renames a file, and replaces a file of the new name.
pub(super) fn rename(from: (&Handle, &OsStr), to: (&Handle, &OsStr)) -> io::Result<()> {
    Ok(rustix::fs::renameat(from.0.as_fd(), from.1, to.0.as_fd(), to.1)?)
}

/// Renames a folder; an error if it is not a folder.
pub(super) fn rename_folder(from: (&Handle, &OsStr), to: (&Handle, &OsStr)) -> io::Result<()> {
    // A name with a slash at its end refers only to a folder (POSIX, "Pathname Resolution").
    let mut name = from.1.to_owned();
    name.push("/");
    rename((from.0, &name), to)
}

/// Renames like `rename`, but fails if the new name exists.
pub(super) fn rename_new(from: (&Handle, &OsStr), to: (&Handle, &OsStr)) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::io::Errno;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(from.0.as_fd(), from.1, to.0.as_fd(), to.1, flags) {
            // Not every kernel and file system supports this flag.
            Err(Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::OPNOTSUPP) => {}
            done => return Ok(done?),
        }
    }
    link(from, to)?;
    remove(from.0, from.1)
}

/// Creates a hard link.
pub(super) fn link(from: (&Handle, &OsStr), to: (&Handle, &OsStr)) -> io::Result<()> {
    Ok(rustix::fs::linkat(from.0.as_fd(), from.1, to.0.as_fd(), to.1, AtFlags::empty())?)
}

/// Syncs a folder, so that the names in it survive a power cut.
pub(super) fn sync(root: &Handle, below: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
    File::from(open_at(root.as_fd(), below, flags, Mode::empty())?).sync_all()
}

fn open_at(root: BorrowedFd<'_>, below: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let steps = steps(below)?;
    #[cfg(target_os = "linux")]
    if let Some(opened) = kernel::open(root, below, flags, mode) {
        return opened;
    }
    walk(root, &steps, flags, mode)
}

/// Opens one component at a time; none may be a link.
pub(super) fn walk(root: BorrowedFd<'_>, steps: &[&OsStr], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let Some((last, before)) = steps.split_last() else {
        return Ok(rustix::fs::openat(root, ".", flags, mode)?);
    };
    let mut at: Option<OwnedFd> = None;
    for step in before {
        let here = at.as_ref().map_or(root, AsFd::as_fd);
        let on = LOOK | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = Some(rustix::fs::openat(here, *step, on, Mode::empty())?);
    }
    Ok(rustix::fs::openat(at.as_ref().map_or(root, AsFd::as_fd), *last, flags, mode)?)
}

/// Returns the components of a path; fails if it leaves the folder in which it starts.
pub(super) fn steps(below: &Path) -> io::Result<Vec<&OsStr>> {
    let names = below.components().map(|component| match component {
        Component::Normal(name) => Ok(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the path does not stay below the folder")),
    });
    names.collect()
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::io;
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{Mode, OFlags, ResolveFlags};
    use rustix::io::Errno;

    /// Whether the kernel has no `openat2` (before 5.6).
    static IS_OLD: AtomicBool = AtomicBool::new(false);

    /// Opens the whole path in one call. None if the caller must walk it.
    pub(super) fn open(root: BorrowedFd<'_>, below: &Path, flags: OFlags, mode: Mode) -> Option<io::Result<OwnedFd>> {
        if IS_OLD.load(Ordering::Relaxed) {
            return None;
        }
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        loop {
            return match rustix::fs::openat2(root, below, flags, mode, how) {
                Err(Errno::INTR) => continue,
                Err(Errno::NOSYS) => {
                    IS_OLD.store(true, Ordering::Relaxed);
                    None
                }
                // Sandboxes that do not know the call return these errors; if the cause is another one, the walk
                // returns it.
                Err(Errno::PERM | Errno::TOOBIG | Errno::INVAL | Errno::OPNOTSUPP) => None,
                opened => Some(opened.map_err(io::Error::from)),
            };
        }
    }
}
