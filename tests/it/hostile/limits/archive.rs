//! Policies that are small when stored and large when read. All are signed, and the lock names them: the limits apply to
//! content signed by a trusted key, too.

use std::io::Write as _;

use autonomy_registry::oci::Digest;
use autonomy_registry::verify::SidecarKind;
use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

use super::{Bound, hold, sealed};
use crate::kit::bundle_bed::{Signed, VERSION};

const MIB: u64 = 1 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// A gzip stream of `head` and then `total` zeros, made of one mebibyte's member repeated (RFC 1952, section 2.2: members
/// are simply appended).
fn zeros_after(head: &[u8], total: u64) -> Vec<u8> {
    let zeros = gzip(&vec![0; usize::try_from(MIB).unwrap()]);
    [gzip(head), zeros.repeat(usize::try_from(total / MIB).unwrap())].concat()
}

fn header(name: &str, kind: EntryType, size: u64) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn entry(name: &str, kind: EntryType, content: &[u8]) -> Vec<u8> {
    [header(name, kind, content.len() as u64), padded(content.to_vec())].concat()
}

/// A `.tar.gz` of these files.
pub(super) fn packed(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let tar: Vec<_> = files.iter().map(|(name, content)| entry(name, EntryType::Regular, content)).collect();
    gzip(&[tar.concat(), vec![0; 1024]].concat())
}

fn manifest() -> Vec<u8> {
    entry("manifest.json", EntryType::Regular, format!(r#"{{"policy_bundle_version":"{VERSION}"}}"#).as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_bomb_as_policy_is_refused() {
    let large = |name: &str, kind| [manifest(), header(name, kind, 1 << 30)].concat();
    let names = |count: usize, length: usize| {
        let one = |n: usize| {
            let name = format!("{n:04}{}.rego\0", "x".repeat(length));
            [entry("././@LongLink", EntryType::GNULongName, name.as_bytes()), header("x", EntryType::Regular, 0)]
                .concat()
        };
        [manifest(), (0..count).flat_map(one).collect(), vec![0; 1024]].concat()
    };
    let pax = |n: usize| format!("{} x={}\n", n, "y".repeat(n - 10)).into_bytes();
    let pairs = [
        ("1 GiB of zeros", zeros_after(&large("a.rego", EntryType::Regular), 1 << 30)),
        ("a manifest.json of 1 GiB", zeros_after(&header("manifest.json", EntryType::Regular, 1 << 30), 1 << 30)),
        (
            "a long name of 60 MiB",
            zeros_after(&[manifest(), header("x", EntryType::GNULongName, 60 * MIB)].concat(), 60 * MIB),
        ),
        (
            "a long link of 60 MiB",
            zeros_after(&[manifest(), header("x", EntryType::GNULongLink, 60 * MIB)].concat(), 60 * MIB),
        ),
        (
            "a PAX header of 60 MiB",
            zeros_after(&[manifest(), header("x", EntryType::XHeader, 60 * MIB)].concat(), 60 * MIB),
        ),
        (
            "PAX records of 30 MiB",
            gzip(
                &[
                    manifest(),
                    entry("x", EntryType::XHeader, &pax(30 << 20)),
                    header("a.rego", EntryType::Regular, 0),
                    vec![0; 1024],
                ]
                .concat(),
            ),
        ),
        (
            "100,000 empty files",
            gzip(&[manifest(), header("a.rego", EntryType::Directory, 0).repeat(100_000)].concat()),
        ),
        ("4,000 names of 15,000 letters", gzip(&names(4000, 15_000))),
        ("nothing, in 200,000 gzip members", gzip(b"").repeat(200_000)),
    ];
    for (what, policy) in pairs {
        let bed = sealed().await;
        let what: &'static str = Box::leak(format!("a policy of {what}").into_boxed_str());
        bed.sidecar(SidecarKind::Policy, &policy, Signed::Yes).await;
        let lock = crate::kit::bundle_bed::lock(bed.image.digest, Digest::sha256(&policy), VERSION);
        bed.sidecar(SidecarKind::Lock, &lock.to_bytes(), Signed::Yes).await;
        let bytes = policy.len() as u64 + MIB;
        assert!(bytes < 16 * MIB, "{what}: {bytes} are too many to be read at all");
        hold(&bed, Bound { what, code: 3, says: "SEMVER_PARSE", requests: 16, bytes }).await;
    }
}
