//! The folder: when files are removed, and which folders are refused.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::*;

/// Creates a file of ours that was last used this many days ago.
fn used_before(place: &Path, content: u8, bytes: usize, days: u64) -> PathBuf {
    fs::create_dir_all(place).unwrap();
    let path = place.join(format!("sha256-{}.partial", Digest::sha256(&[content]).hex()));
    fs::write(&path, vec![content; bytes]).unwrap();
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
    path
}

#[tokio::test]
async fn what_is_old_goes_and_of_too_much_the_longest_unused_and_nothing_that_is_in_use_or_not_ours() {
    let home = tempfile::tempdir().unwrap();
    let place = home.path();
    let old = used_before(place, 0, 10, 31);
    let busy = used_before(place, 1, 1000, 29);
    let [longest, longer, recent] =
        [(2, 3), (3, 2), (4, 1)].map(|(content, days)| used_before(place, content, 1000, days));
    let foreign = ["sha256-12.partial", "notes.txt", "sha256-.partial", &format!("md5-{}.partial", "0".repeat(64))];
    for name in foreign {
        fs::write(place.join(name), vec![0; 5000]).unwrap();
    }
    let user = fs::File::open(&busy).unwrap();
    user.lock().unwrap();

    let spool = Spool::open(place, 1 << 40).await.unwrap();
    assert!(!old.exists() && [&busy, &longest, &longer, &recent].iter().all(|path| path.exists()));
    assert!(spool.folder.take(10));
    assert!(longest.exists(), "there is room");
    Spool::open(place, 3000).await.unwrap();
    assert!(!longest.exists() && busy.exists() && longer.exists() && recent.exists());
    let spool = Spool::open(place, 3500).await.unwrap();
    assert!(spool.folder.take(1000), "one goes for it");
    assert!(!longer.exists() && recent.exists());
    assert!(!spool.folder.take(3000) && !recent.exists(), "what is in use stays, and is too much");
    assert!(busy.exists() && foreign.iter().all(|name| place.join(name).exists()));
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_a_usage_error() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    for place in [file.clone(), file.join("below")] {
        let error = Spool::open(&place, 1).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{}", error.chain());
        assert!(error.chain().contains("--spool") && error.chain().contains(place.to_str().unwrap()));
    }
}
