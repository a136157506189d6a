use flate2::read::MultiGzDecoder as MultiGz;

use super::*;

const MANIFEST_JSON: &[u8] = br#"{"policy_bundle_version":"1.2.0","name":"p","required_runtime_version":">=1.0 <2.0"}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Builds an archive as an attacker would: any name, any type.
fn archive(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    gzip(&tar.into_inner().unwrap())
}

#[test]
fn the_same_files_give_the_same_bytes_in_any_order() {
    let files = vec![
        ("z.rego".to_owned(), b"package z".to_vec()),
        (MANIFEST.to_owned(), MANIFEST_JSON.to_vec()),
        ("sub/a.rego".to_owned(), b"package a".to_vec()),
    ];
    let packed = pack(files.clone()).unwrap();
    assert_eq!(packed, pack(files.into_iter().rev().collect()).unwrap());
    let read = Policy::read(&packed).unwrap();
    assert_eq!(read.files, [MANIFEST, "sub/a.rego", "z.rego"]);
    assert_eq!((read.version, read.name.as_deref()), (Version::new(1, 2, 0), Some("p")));
    assert_eq!(read.required_runtime_version.as_deref(), Some(">=1.0 <2.0"));
}

#[test]
fn a_bundle_that_could_not_be_read_is_not_packed() {
    let file = |name: &str, content: &[u8]| (name.to_owned(), content.to_vec());
    assert!(matches!(pack(vec![file("a.rego", b"")]), Err(PolicyError::NoManifest)));
    assert!(matches!(pack(vec![file(MANIFEST, b"{}")]), Err(PolicyError::Manifest(_))));
    assert!(matches!(pack(vec![file(MANIFEST, MANIFEST_JSON), file("run.sh", b"")]), Err(PolicyError::Entry { .. })));
    let twice = vec![file(MANIFEST, MANIFEST_JSON), file("a.rego", b"1"), file("a.rego", b"2")];
    assert!(matches!(pack(twice), Err(PolicyError::Entry { .. })));
    let outside = vec![file(MANIFEST, MANIFEST_JSON), file("../a.rego", b"")];
    assert!(matches!(pack(outside), Err(PolicyError::Entry { .. })));
}

#[test]
fn entries_that_are_no_plain_files_of_the_bundle_are_refused() {
    let good = (MANIFEST, tar::EntryType::Regular, MANIFEST_JSON);
    assert!(Policy::read(&archive(&[good, ("d/", tar::EntryType::Directory, b"")])).is_ok());
    let dotted = Policy::read(&archive(&[("./manifest.json", tar::EntryType::Regular, MANIFEST_JSON)])).unwrap();
    assert_eq!(dotted.files, [MANIFEST]);
    for (name, kind) in [
        ("../up.rego", tar::EntryType::Regular),
        ("/abs.rego", tar::EntryType::Regular),
        ("link.rego", tar::EntryType::Symlink),
        ("link.rego", tar::EntryType::Link),
        ("null", tar::EntryType::Char),
        ("./manifest.json", tar::EntryType::Regular),
    ] {
        let read = Policy::read(&archive(&[good, (name, kind, b"")]));
        assert!(matches!(read, Err(PolicyError::Entry { .. })), "{name} {kind:?}: {read:?}");
    }
}

#[test]
fn a_manifest_without_a_version_is_refused() {
    for text in [
        "{}",
        "[]",
        "{",
        r#"{"policy_bundle_version":1}"#,
        r#"{"policy_bundle_version":"1.2"}"#,
        r#"{"policy_bundle_version":"1.2.0","policy_bundle_version":"1.2.0"}"#,
    ] {
        let read = Policy::read(&archive(&[(MANIFEST, tar::EntryType::Regular, text.as_bytes())]));
        assert!(matches!(read, Err(PolicyError::Manifest(_))), "{text}: {read:?}");
    }
}

#[test]
fn a_bomb_is_refused_before_it_has_gone_off() {
    let zeros = vec![0; 9 << 20];
    let entries: Vec<_> =
        ["a", "b", "c", "d", "e", "f", "g", "h"].map(|n| (n, tar::EntryType::Regular, &zeros[..])).into();
    let bomb = archive(&entries);
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    assert!(matches!(Policy::read(&bomb), Err(PolicyError::Limit { limit: MAX_INFLATED_BYTES, .. })));
    let huge = archive(&[(MANIFEST, tar::EntryType::Regular, &zeros[..2 << 20])]);
    assert!(matches!(Policy::read(&huge), Err(PolicyError::Limit { limit: MAX_MANIFEST_BYTES, .. })));
}

#[test]
fn a_name_of_megabytes_is_refused_before_it_is_copied() {
    let name = vec![0xff; 2 << 20];
    let mut record = format!("{} path=", name.len() + 14).into_bytes();
    record.extend_from_slice(&name);
    record.push(b'\n');
    for (kind, content) in [(tar::EntryType::GNULongName, &name), (tar::EntryType::XHeader, &record)] {
        let bomb = archive(&[("long", kind, content), (MANIFEST, tar::EntryType::Regular, MANIFEST_JSON)]);
        assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
        let read = Policy::read(&bomb);
        assert!(matches!(read, Err(PolicyError::Limit { .. })), "{kind:?}: {:?}", read.map(|_| ()));
    }
}

#[test]
fn gzip_members_are_read_one_after_the_other_and_not_without_end() {
    let mut tar = Vec::new();
    MultiGz::new(&archive(&[(MANIFEST, tar::EntryType::Regular, MANIFEST_JSON)])[..]).read_to_end(&mut tar).unwrap();
    let parts: Vec<_> = tar.chunks(100).map(gzip).collect();
    assert_eq!(Policy::read(&parts.concat()).unwrap().files, [MANIFEST]);
    let (empty, whole) = (gzip(b""), gzip(&tar));
    let after = |count: usize| Policy::read(&[empty.repeat(count), whole.clone()].concat());
    assert!(after(MAX_MEMBERS - 1).is_ok());
    assert!(after(MAX_MEMBERS).unwrap_err().to_string().contains("gzip members"));
}

#[test]
fn thousands_of_entries_are_refused() {
    let names: Vec<_> = (0..=MAX_ENTRIES).map(|n| format!("{n}.rego")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), tar::EntryType::Regular, &b""[..])).collect();
    assert!(matches!(Policy::read(&archive(&entries)), Err(PolicyError::Limit { what: "entries", .. })));
}

/// Builds a PAX record (POSIX.1-2017, "pax Extended Header"): its length comes first and includes its own digits.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| length - rest == length.to_string().len()).unwrap();
    format!("{length} {key}={value}\n").into_bytes()
}

#[test]
fn names_that_do_not_fit_their_header_are_read_from_the_one_before() {
    use tar::EntryType::{GNULongName, Regular, XHeader};
    let manifest = (MANIFEST, Regular, MANIFEST_JSON);
    let long = format!("{}/b.rego", "a".repeat(200));
    let packed = pack(vec![(MANIFEST.into(), MANIFEST_JSON.into()), (long.clone(), b"b".to_vec())]).unwrap();
    let gnu = archive(&[("x", GNULongName, format!("./{long}\0").as_bytes()), ("cut", Regular, b"b"), manifest]);
    let pax = [record("mtime", "1.5"), record("path", &long)].concat();
    let pax = archive(&[("x", XHeader, &pax), ("cut", Regular, b"b"), manifest]);
    for bytes in [packed, gnu, pax] {
        let files = Policy::read(&bytes).unwrap().files;
        assert!(files.contains(&long) && files.contains(&MANIFEST.to_owned()), "{files:?}");
    }
    // A manifest that is named only by its long name is the manifest, and must not occur twice.
    let hidden = [("x", XHeader, &record("path", MANIFEST)[..]), ("y", Regular, MANIFEST_JSON)];
    assert_eq!(Policy::read(&archive(&hidden)).unwrap().files, [MANIFEST]);
    let twice = archive(&[hidden[0], hidden[1], manifest]);
    assert!(matches!(Policy::read(&twice), Err(PolicyError::Entry { .. })));
    let outside = archive(&[("x", GNULongName, b"../up.rego"), ("y", Regular, b""), manifest]);
    assert!(matches!(Policy::read(&outside), Err(PolicyError::Entry { .. })));
}

#[test]
fn a_name_that_readers_would_end_in_different_places_is_refused() {
    use tar::EntryType::{GNULongName, Regular, XHeader};
    let manifest = (MANIFEST, Regular, MANIFEST_JSON);
    for (kind, name) in [(GNULongName, b"a.rego\0b.rego\0".to_vec()), (XHeader, record("path", "a.rego\0b.rego"))] {
        let read = Policy::read(&archive(&[("x", kind, &name), ("y", Regular, b""), manifest]));
        assert!(
            matches!(&read, Err(PolicyError::Entry { why, .. }) if why.contains("zero byte")),
            "{kind:?}: {read:?}"
        );
    }
}

#[test]
fn an_extension_that_only_some_readers_take_for_one_is_refused() {
    let mut header = tar::Header::new_old();
    let path = record("path", "a.rego");
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(path.len() as u64);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, &path[..]).unwrap();
    let read = Policy::read(&gzip(&tar.into_inner().unwrap()));
    assert!(matches!(&read, Err(PolicyError::Entry { why, .. }) if why.contains("format")), "{read:?}");
}

#[test]
fn headers_that_extend_others_have_bounds_and_change_no_size() {
    use tar::EntryType::{GNULongName, Regular, XHeader};
    let manifest = (MANIFEST, Regular, MANIFEST_JSON);
    let (name, long) = ("n".repeat(1025), vec![b'n'; 64 << 10 | 1]);
    let named = archive(&[("x", GNULongName, name.as_bytes()), ("y", Regular, b""), manifest]);
    assert!(matches!(Policy::read(&named), Err(PolicyError::Limit { limit: MAX_NAME_BYTES, .. })));
    for kind in [GNULongName, XHeader] {
        let read = Policy::read(&archive(&[("x", kind, &long), ("y", Regular, b""), manifest]));
        assert!(matches!(read, Err(PolicyError::Limit { limit: MAX_EXTENSION_BYTES, .. })), "{kind:?}: {read:?}");
    }
    for key in ["size", "GNU.sparse.realsize"] {
        let read = Policy::read(&archive(&[("x", XHeader, &record(key, "5")), ("y", Regular, b""), manifest]));
        assert!(matches!(read, Err(PolicyError::Entry { .. })), "{key}: {read:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        proptest::prop_assert!(Policy::read(&bytes).is_err());
        proptest::prop_assert!(Policy::read(&gzip(&bytes)).is_err());
    }
}
