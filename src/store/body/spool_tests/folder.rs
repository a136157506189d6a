//! Files of the spool: which blobs get one, when one is removed, and who owns it.

use super::*;

#[tokio::test]
async fn manifests_and_what_is_small_or_at_hand_makes_no_files() {
    let bed = Bed::new(MIB - 1);
    let spool = bed.spool(1 << 40).await;
    let manifest = Descriptor::new(MediaType::OCI_MANIFEST, bed.node.digest, 4 * MIB as u64);
    let large = Bytes::from(vec![7; 2 * MIB]);
    for body in [
        Body::stored(bed.node.clone(), Arc::clone(&bed.source) as _),
        Body::stored(manifest, Arc::clone(&bed.source) as _),
        Body::bytes(Descriptor::of(MediaType::OCI_LAYER, &large), large.clone()),
    ] {
        let _ = body.spooled(&spool).open().next().await.unwrap().unwrap();
        assert_eq!(fs::read_dir(bed.place()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn what_is_found_to_have_landed_before_is_removed_unless_it_is_in_use() {
    let bed = Bed::new(2 * MIB);
    bed.leave(&bed.bytes[..MIB]);
    let user = fs::File::open(bed.file()).unwrap();
    user.lock().unwrap();
    bed.body().await.landed().await;
    assert_eq!(bed.kept(), MIB);
    drop(user);
    bed.body().await.landed().await;
    assert!(!bed.file().exists());
}

#[cfg(unix)]
#[tokio::test]
async fn folder_and_files_are_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = Bed::new(2 * MIB);
    let body = bed.body().await;
    read(&body, usize::MAX).await.unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(bed.place()), mode(bed.file())), (0o700, 0o600));
}
