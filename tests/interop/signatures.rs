//! Signatures that cosign makes, checked by this program, carried, and checked by cosign again.

use std::path::{Path, PathBuf};

use crate::Case;
use crate::copies::{block_on, repository, seed};
use crate::images::shape;
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
];

/// A key pair that this test makes for itself.
pub(crate) fn keys(peers: &Peers, folder: &Path) -> (PathBuf, PathBuf) {
    let output = peers.command("cosign").current_dir(folder).arg("generate-key-pair").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    (folder.join("cosign.key"), folder.join("cosign.pub"))
}

/// Signs `reference` in cosign's old format (`.sig` tag) or its new one (bundle as referrer).
pub(crate) fn sign(peers: &Peers, key: &Path, reference: &str, format: &str) {
    let at = format!("autonomy.signed-at={}", jiff_now());
    let mut command = peers.command("cosign");
    command.args(["sign", "--key", key.to_str().unwrap(), "--use-signing-config=false", "--tlog-upload=false", "-y"]);
    command.args(["--allow-http-registry", "-a", &at, &format!("--new-bundle-format={format}"), reference]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "cosign sign: {}", text(&output));
}

fn jiff_now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap().to_string()
}

pub(crate) fn cosign_verifies(peers: &Peers, key: &Path, reference: &str) -> bool {
    let mut command = peers.command("cosign");
    command.args([
        "verify",
        "--key",
        key.to_str().unwrap(),
        "--insecure-ignore-tlog",
        "--allow-http-registry",
        reference,
    ]);
    command.output().unwrap().status.success()
}

pub(crate) fn publish(host: &str, path: &str, seed: u64) -> String {
    let store = repository(host, path);
    let root = block_on(shape::three_platforms(seed, &[1 << 10, 1 << 12]).put(&store, &["v1".parse().unwrap()]));
    format!("{host}/{path}@{}", root.digest)
}

fn signed(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let (key, public) = keys(peers, home.path());
    let kinds = [Kind::Embedded, Kind::Distribution2, Kind::Distribution3];
    for from in kinds {
        let source = Server::start(peers, from);
        for (number, (name, format)) in [("legacy", "false"), ("bundle", "true")].into_iter().enumerate() {
            let path = format!("signed{number}");
            let pinned = publish(&source.host, &path, number as u64);
            sign(peers, &key, &pinned, format);
            for to in kinds {
                let sink = Server::start(peers, to);
                let out = tempfile::tempdir().unwrap();
                let (source, sink) = (format!("{}/{path}:v1", source.host), format!("{}/{path}:v1", sink.host));
                let done = seed(out.path(), &source, &sink, &["--pub-key", public.to_str().unwrap()]);
                let what = format!("{name} from {} to {}", from.name(), to.name());
                assert!(done.status.success(), "{what}: {}", text(&done));
                assert!(cosign_verifies(peers, &public, &sink), "{what}: cosign does not verify what arrived");
                println!("table: {what}: verified by us twice and by cosign after");
            }
        }
    }
}

fn refused(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let (key, _) = keys(peers, home.path());
    let stranger = tempfile::tempdir().unwrap();
    let (_, other) = keys(peers, stranger.path());
    let (source, sink) = (Server::start(peers, Kind::Distribution2), Server::start(peers, Kind::Distribution2));
    sign(peers, &key, &publish(&source.host, "signed", 1), "false");
    publish(&source.host, "unsigned", 2);
    for path in ["signed", "unsigned"] {
        let out = tempfile::tempdir().unwrap();
        let (from, to) = (format!("{}/{path}:v1", source.host), format!("{}/{path}:v1", sink.host));
        let done = seed(out.path(), &from, &to, &["--pub-key", other.to_str().unwrap()]);
        assert_eq!(done.status.code(), Some(3), "{path}: {}", text(&done));
        assert!(text(&done).contains("source verification failed (fail-closed)"), "{}", text(&done));
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
        assert!(!peers.command("crane").args(["digest", "--insecure", &to]).output().unwrap().status.success());
    }
}

/// This program, with the password that the peers use.
fn autonomy(arguments: &[&str]) -> std::process::Output {
    std::process::Command::new(AUTONOMY).env("COSIGN_PASSWORD", "").args(arguments).output().unwrap()
}

/// A policy's folder.
fn policy(home: &Path) -> PathBuf {
    let folder = home.join("policy");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("manifest.json"), r#"{"policy_bundle_version":"1.2.0"}"#).unwrap();
    std::fs::write(folder.join("motion.rego"), "package motion\n").unwrap();
    folder
}

fn sealed(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let (key, public) = keys(peers, home.path());
    let (key, public_text) = (key.to_str().unwrap(), public.to_str().unwrap());
    let policy = policy(home.path());
    for kind in [Kind::Embedded, Kind::Distribution2, Kind::Distribution3] {
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
                key,
                "--policy",
                policy.to_str().unwrap(),
                "--format",
                format,
            ]);
            assert!(done.status.success(), "{what}: {}", text(&done));
            let done =
                autonomy(&["bundle", "verify", &image, "--pub-key", public_text, "--require-lock", "--require-policy"]);
            assert!(done.status.success(), "{what}: {}", text(&done));
            for suffix in ["", "-lock", "-policy"] {
                assert!(cosign_verifies(peers, &public, &format!("{image}{suffix}")), "{what}: {suffix}");
            }
            println!("table: {what}: image, lock and policy sealed by us and verified by cosign");
        }
    }
}

fn private_keys(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let (ours, theirs) = (home.path().join("ours"), home.path().join("theirs"));
    let done = autonomy(&["bundle", "keygen", "--out", ours.to_str().unwrap()]);
    assert!(done.status.success(), "{}", text(&done));
    let of_ours = ours.join("cosign.key");
    // What cosign reads out of our file is the public key that we wrote beside it.
    let public = peers.run("cosign", ["public-key", "--key", of_ours.to_str().unwrap()]);
    assert_eq!(public, std::fs::read_to_string(ours.join("cosign.pub")).unwrap().trim());
    let server = Server::start(peers, Kind::Embedded);
    let pinned = publish(&server.host, "ours", 1);
    sign(peers, &of_ours, &pinned, "false");
    let ours_public = ours.join("cosign.pub");
    let done = autonomy(&["verify", "--image", &pinned, "--pub", ours_public.to_str().unwrap()]);
    assert!(done.status.success(), "{}", text(&done));

    std::fs::create_dir(&theirs).unwrap();
    let (key, public) = keys(peers, &theirs);
    let pinned = publish(&server.host, "theirs", 2);
    let done = autonomy(&["bundle", "seal", &pinned, "--key", key.to_str().unwrap()]);
    assert!(done.status.success(), "{}", text(&done));
    assert!(cosign_verifies(peers, &public, &pinned));

    let wrong = std::process::Command::new(AUTONOMY)
        .env("COSIGN_PASSWORD", "wrong")
        .args(["bundle", "seal", &pinned, "--key", key.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong).contains("KEY_PASSWORD"), "{}", text(&wrong));
}

fn both_sign(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let (ours, theirs) = (home.path().join("ours"), home.path().join("theirs"));
    for folder in [&ours, &theirs] {
        std::fs::create_dir(folder).unwrap();
    }
    let ((our_key, our_public), (their_key, their_public)) = (keys(peers, &ours), keys(peers, &theirs));
    let server = Server::start(peers, Kind::Distribution2);
    for (number, cosign_first) in [true, false].into_iter().enumerate() {
        let pinned = publish(&server.host, &format!("both{number}"), number as u64);
        let seal = || {
            let done = autonomy(&["bundle", "seal", &pinned, "--key", our_key.to_str().unwrap()]);
            assert!(done.status.success(), "{}", text(&done));
        };
        if !cosign_first {
            seal();
        }
        sign(peers, &their_key, &pinned, "false");
        if cosign_first {
            seal();
        }
        for public in [&our_public, &their_public] {
            assert!(cosign_verifies(peers, public, &pinned), "cosign first: {cosign_first}");
            let done = autonomy(&["verify", "--image", &pinned, "--pub", public.to_str().unwrap()]);
            assert!(done.status.success(), "{}", text(&done));
        }
    }
}
