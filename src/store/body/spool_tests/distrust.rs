//! Files with wrong content: dropped, fetched again in part, or left alone.

use std::time::SystemTime;

use super::*;

#[tokio::test]
async fn a_file_that_turns_out_wrong_is_thrown_away_and_never_stands_in_the_way() {
    let bed = Bed::new(2 * MIB);
    let mut torn = bed.bytes.to_vec();
    torn[700_000] ^= 1;
    let longer = [&bed.bytes[..], b"more"].concat();
    for (what, left, asked) in
        [("whole", &torn[..], vec![]), ("half", &torn[..MIB], vec![MIB as u64]), ("all zero", &[0; 5], vec![5])]
    {
        bed.leave(left);
        let body = bed.body().await;
        let error = read(&body, usize::MAX).await.err().unwrap();
        assert_eq!((error.kind(), error.side()), (Kind::Corrupt, Some(crate::Side::Source)), "{what}");
        assert_eq!((bed.kept(), bed.source.asked()), (0, asked), "{what}");
        assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes, "{what}");
        assert_eq!(bed.source.asked(), [0], "{what}");
        body.landed().await;
    }
    bed.leave(&longer);
    assert!(read(&bed.body().await, usize::MAX).await.unwrap() == bed.bytes, "a longer one is not this blob's");
    assert_eq!(bed.source.asked(), [0]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn after_a_restart_of_the_machine_what_may_not_have_been_flushed_is_fetched_again() {
    let bed = Bed::new(30 * MIB);
    bed.leave(&bed.bytes[..27 * MIB]);
    fs::File::options()
        .write(true)
        .open(bed.file())
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(20 * 86_400))
        .unwrap();
    let up: f64 = fs::read_to_string("/proc/uptime").unwrap().split_whitespace().next().unwrap().parse().unwrap();
    let body = bed.body().await;
    assert!(read(&body, usize::MAX).await.unwrap() == bed.bytes);
    let expected = if up > 20.0 * 86_400.0 { 27 } else { 16 };
    assert_eq!(bed.source.asked(), [expected * MIB as u64]);
}

/// An obstacle in the file's place is neither followed nor touched, and the blob arrives all the same.
#[cfg(unix)]
#[tokio::test]
async fn links_folders_and_pipes_under_the_name_of_a_file_are_left_alone() {
    let lie = |bed: &Bed, what: &str| {
        let treasure = bed.home.path().join("treasure");
        fs::write(&treasure, "precious").unwrap();
        fs::create_dir_all(bed.place()).unwrap();
        match what {
            "link" => std::os::unix::fs::symlink(&treasure, bed.file()).unwrap(),
            "link to nothing" => std::os::unix::fs::symlink(bed.home.path().join("none"), bed.file()).unwrap(),
            "second name" => fs::hard_link(&treasure, bed.file()).unwrap(),
            "folder" => fs::create_dir(bed.file()).unwrap(),
            _ => assert!(std::process::Command::new("mkfifo").arg(bed.file()).status().unwrap().success()),
        }
        treasure
    };
    for what in ["link", "link to nothing", "second name", "folder", "pipe"] {
        let bed = Bed::new(2 * MIB);
        let treasure = lie(&bed, what);
        let before = bed.file().symlink_metadata().unwrap();
        let body = Body::stored(bed.node.clone(), Arc::clone(&bed.source) as _).spooled(&bed.spool(1).await);
        assert!(
            tokio::time::timeout(Duration::from_secs(20), read(&body, usize::MAX)).await.unwrap().unwrap() == bed.bytes
        );
        body.landed().await;
        assert_eq!(fs::read_to_string(treasure).unwrap(), "precious", "{what}");
        assert!(!bed.home.path().join("none").exists(), "{what}");
        let after = bed.file().symlink_metadata().unwrap();
        assert_eq!((before.file_type(), before.len()), (after.file_type(), after.len()), "{what}");
    }
}
