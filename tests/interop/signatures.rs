//! Signatures that cosign makes, checked by this program, carried, and checked by cosign again.

use std::path::{Path, PathBuf};

use autonomy_registry::oci::Reference;
use autonomy_registry::trust::simple_signing;
use autonomy_registry::verify::SigningKey;
use jiff::Timestamp;
use testkit::images::shape;
use testkit::rekor::{self, Log};

use crate::Case;
use crate::copies::{block_on, repository, seed};
use crate::cosign::{Form, Keys, autonomy, judged, sign, verify};
use crate::peers::{AUTONOMY, Kind, Peers, Server, text};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "an image that cosign signed is verified, carried and verified by cosign again",
        needs: &["cosign", "docker-registry", "registry3"],
        run: signed,
    },
    Case {
        name: "an image without the right signature is refused and nothing is left behind",
        needs: &["cosign", "crane", "docker-registry"],
        run: refused,
    },
    Case {
        name: "a bundle that we sealed is verified by cosign in every format",
        needs: &["cosign", "docker-registry", "registry3"],
        run: sealed,
    },
    Case { name: "cosign and we open each other's private keys", needs: &["cosign"], run: private_keys },
    Case {
        name: "our signature and cosign's stand beside each other",
        needs: &["cosign", "docker-registry"],
        run: both_sign,
    },
    Case { name: "cosign and we verify each other's signatures of files", needs: &["cosign"], run: files },
    Case {
        name: "log entries that we believe are those that cosign believes",
        needs: &["cosign", "docker-registry"],
        run: recorded,
    },
];

/// Puts an image of three platforms under `path:v1`, and returns its reference by digest.
pub(crate) fn publish(host: &str, path: &str, seed: u64) -> String {
    let store = repository(host, path);
    let root = block_on(shape::three_platforms(seed, &[1 << 10, 1 << 12]).put(&store, &["v1".parse().unwrap()]));
    format!("{host}/{path}@{}", root.digest)
}

fn signed(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let keys = Keys::generated(peers, home.path());
    let servers = Kind::MATRIX.map(|kind| (kind.name(), Server::start(peers, kind)));
    for (from, source) in &servers {
        let origin = from.replace([' ', '.'], "-");
        for (number, form) in Form::ALL.into_iter().enumerate() {
            let path = format!("{origin}/{}", form.name());
            sign(peers, &keys, &publish(&source.host, &path, number as u64), form);
            for (to, sink) in &servers {
                let out = tempfile::tempdir().unwrap();
                let (source, sink) = (format!("{}/{path}:v1", source.host), format!("{}/site/{path}:v1", sink.host));
                let done = seed(out.path(), &source, &sink, &["--pub-key", keys.public()]);
                let what = format!("{} from {from} to {to}", form.name());
                assert!(done.status.success(), "{what}: {}", text(&done));
                verify(peers, &keys, &sink, form).unwrap_or_else(|why| panic!("{what}: what arrived: {why}"));
                println!("table: {what}: verified by us twice and by cosign after");
            }
        }
    }
}

fn refused(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let keys = Keys::generated(peers, &home.path().join("signer"));
    let stranger = Keys::generated(peers, &home.path().join("stranger"));
    let (source, sink) = (Server::start(peers, Kind::Distribution2), Server::start(peers, Kind::Distribution2));
    sign(peers, &keys, &publish(&source.host, "signed", 1), Form::Legacy);
    publish(&source.host, "unsigned", 2);
    for path in ["signed", "unsigned"] {
        let out = tempfile::tempdir().unwrap();
        let (from, to) = (format!("{}/{path}:v1", source.host), format!("{}/{path}:v1", sink.host));
        let done = seed(out.path(), &from, &to, &["--pub-key", stranger.public()]);
        assert_eq!(done.status.code(), Some(3), "{path}: {}", text(&done));
        assert!(text(&done).contains("source verification failed (fail-closed)"), "{}", text(&done));
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
        assert!(!peers.command("crane").args(["digest", "--insecure", &to]).output().unwrap().status.success());
    }
}

/// A folder with a policy.
fn policy(home: &Path) -> PathBuf {
    let folder = home.join("policy");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("manifest.json"), r#"{"policy_bundle_version":"1.2.0"}"#).unwrap();
    std::fs::write(folder.join("motion.rego"), "package motion\n").unwrap();
    folder
}

fn sealed(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let keys = Keys::generated(peers, home.path());
    let policy = policy(home.path());
    for kind in Kind::MATRIX {
        let server = Server::start(peers, kind);
        for (number, format) in ["legacy", "bundle", "both"].into_iter().enumerate() {
            publish(&server.host, format, number as u64);
            let image = format!("{}/{format}:v1", server.host);
            let what = format!("{format} on {}", kind.name());
            let done = autonomy(&[
                "bundle",
                "seal",
                &image,
                "--key",
                keys.private(),
                "--policy",
                policy.to_str().unwrap(),
                "--format",
                format,
            ]);
            assert!(done.status.success(), "{what}: {}", text(&done));
            let done = autonomy(&[
                "bundle",
                "verify",
                &image,
                "--pub-key",
                keys.public(),
                "--require-lock",
                "--require-policy",
            ]);
            assert!(done.status.success(), "{what}: {}", text(&done));
            for suffix in ["", "-lock", "-policy"] {
                let done = verify(peers, &keys, &format!("{image}{suffix}"), Form::Bundle);
                done.unwrap_or_else(|why| panic!("{what}: {suffix}: {why}"));
            }
            println!("table: {what}: image, lock and policy sealed by us and verified by cosign");
        }
    }
}

fn private_keys(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let ours = home.path().join("ours");
    let done = autonomy(&["bundle", "keygen", "--out", ours.to_str().unwrap()]);
    assert!(done.status.success(), "{}", text(&done));
    let ours = Keys { private: ours.join("cosign.key"), public: ours.join("cosign.pub") };
    // The public key that cosign reads from our file is the one that we wrote beside it.
    let public = peers.run("cosign", ["public-key", "--key", ours.private()]);
    assert_eq!(public, std::fs::read_to_string(&ours.public).unwrap().trim());
    let server = Server::start(peers, Kind::Embedded);
    let pinned = publish(&server.host, "ours", 1);
    sign(peers, &ours, &pinned, Form::Legacy);
    assert_eq!(judged(&ours, &pinned), "ok");

    let theirs = Keys::generated(peers, &home.path().join("theirs"));
    let pinned = publish(&server.host, "theirs", 2);
    let done = autonomy(&["bundle", "seal", &pinned, "--key", theirs.private()]);
    assert!(done.status.success(), "{}", text(&done));
    verify(peers, &theirs, &pinned, Form::Legacy).unwrap();

    let wrong = std::process::Command::new(AUTONOMY)
        .env("COSIGN_PASSWORD", "wrong")
        .args(["bundle", "seal", &pinned, "--key", theirs.private()])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong).contains("KEY_PASSWORD"), "{}", text(&wrong));
}

/// With a key of each kind: files that we sign, files that cosign signs in both of its forms, and a file that was changed.
fn files(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (file, other) = (path("file"), path("other"));
    std::fs::write(&file, vec![7; 3 << 20]).unwrap();
    std::fs::write(&other, vec![8; 3 << 20]).unwrap();
    let mut kinds = vec![("p256", Keys::generated(peers, &home.path().join("p256")))];
    kinds.extend(every_kind().map(|(name, pkcs8)| (name, Keys::imported(peers, &home.path().join(name), &pkcs8))));
    for (kind, keys) in kinds {
        let cosign = |bundle: &str, file: &str| {
            let mut verify = peers.command("cosign");
            verify.args(["verify-blob", "--key", keys.public(), "--insecure-ignore-tlog", "--bundle", bundle, file]);
            verify.output().unwrap()
        };
        let ours = |bundle: &str, file: &str| {
            autonomy(&["bundle", "verify-blob", file, "--pub-key", keys.public(), "--bundle", bundle]).status.code()
        };
        let sealed = path(&format!("{kind}.ours"));
        let done = autonomy(&["bundle", "sign-blob", &file, "--key", keys.private(), "--bundle", &sealed]);
        assert!(done.status.success(), "{kind}: {}", text(&done));
        let verified = cosign(&sealed, &file);
        assert!(verified.status.success(), "cosign verifies what we signed with {kind}: {}", text(&verified));
        assert!(!cosign(&sealed, &other).status.success(), "{kind}: another file");
        for form in ["true", "false"] {
            let theirs = path(&format!("{kind}.{form}"));
            let mut sign = peers.command("cosign");
            sign.args([
                "sign-blob",
                "--key",
                keys.private(),
                "--use-signing-config=false",
                "--tlog-upload=false",
                "-y",
            ]);
            let done =
                sign.args([&format!("--new-bundle-format={form}"), "--bundle", &theirs, &file]).output().unwrap();
            assert!(done.status.success(), "cosign sign-blob with {kind}: {}", text(&done));
            assert_eq!((ours(&theirs, &file), ours(&theirs, &other)), (Some(0), Some(3)), "{kind}, new form {form}");
        }
        println!("table: a file signed with {kind}: by us and verified by cosign, by cosign and verified by us");
    }
}

/// A new private key of each kind that cosign imports, in PKCS #8.
fn every_kind() -> [(&'static str, Vec<u8>); 4] {
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::signature::{
        ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    };
    let ecdsa = |algorithm| EcdsaKeyPair::generate(algorithm).unwrap().to_pkcs8v1().unwrap().as_ref().to_vec();
    let ed25519 = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref().to_vec();
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let rsa: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    [
        ("p384", ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING)),
        ("p521", ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING)),
        ("ed25519", ed25519),
        ("rsa", rsa.as_ref().to_vec()),
    ]
}

fn both_sign(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| Keys::generated(peers, &home.path().join(name)));
    let server = Server::start(peers, Kind::Distribution2);
    for (number, cosign_first) in [true, false].into_iter().enumerate() {
        let pinned = publish(&server.host, &format!("both{number}"), number as u64);
        let seal = || {
            let done = autonomy(&["bundle", "seal", &pinned, "--key", ours.private()]);
            assert!(done.status.success(), "{}", text(&done));
        };
        if !cosign_first {
            seal();
        }
        sign(peers, &theirs, &pinned, Form::Legacy);
        if cosign_first {
            seal();
        }
        for keys in [&ours, &theirs] {
            let done = verify(peers, keys, &pinned, Form::Legacy);
            done.unwrap_or_else(|why| panic!("cosign first: {cosign_first}: {why}"));
            assert_eq!(judged(keys, &pinned), "ok");
        }
    }
}

/// Both tools, with the key of the right log and with the key of another.
fn recorded(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        let path = home.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (log, other, key) = (Log::new(), Log::new(), SigningKey::generate().unwrap());
    let public = file("cosign.pub", key.public_pem().unwrap());
    let source = Server::start(peers, Kind::Distribution2);
    for (path, form) in [("legacy", "--new-bundle-format=false"), ("bundle", "--new-bundle-format=true")] {
        let store = repository(&source.host, path);
        let image = shape::three_platforms(7, &[1 << 10]);
        let image = block_on(image.put(&store, &["v1".parse().unwrap()]));
        if path == "legacy" {
            let name = format!("{}/{path}:v1", source.host).parse::<Reference>().unwrap().repository;
            let made = rekor::legacy(simple_signing::legacy(&name, &image.digest, Some(Timestamp::now())), &key);
            let entry = log.annotation(&made.body);
            block_on(rekor::put_legacy(&store, &image, &made.signed, &made.signature, entry));
        } else {
            block_on(log.put_bundle(&store, &image, &key));
        }
        let reference = format!("{}/{path}:v1", source.host);
        for (log, is_believed) in [(&log, true), (&other, false)] {
            let root = file("root.json", log.trusted_root());
            let mut cosign = peers.command("cosign");
            cosign.args(["verify", "--key", &public, "--offline", "--allow-http-registry", "--trusted-root", &root]);
            let theirs = cosign.args([form, &reference]).output().unwrap();
            assert_eq!(theirs.status.success(), is_believed, "{path}: cosign: {}", text(&theirs));
            let log = file("rekor.pub", log.key.public_pem().unwrap());
            let demanded = ["--pub-key", &public, "--rekor-key", &log, "--require-tlog"];
            let ours = autonomy(&[&["bundle", "verify", &reference], &demanded[..]].concat());
            assert_eq!(ours.status.success(), is_believed, "{path}: {}", text(&ours));
        }
    }
}
