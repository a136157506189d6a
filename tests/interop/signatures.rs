//! Signatures that cosign makes, checked by this program, carried, and checked by cosign again.

use std::path::{Path, PathBuf};

use crate::Case;
use crate::copies::{block_on, repository, seed};
use crate::images::shape;
use crate::peers::{Kind, Peers, Server, text};

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
];

/// A key pair that this test makes for itself.
fn keys(peers: &Peers, folder: &Path) -> (PathBuf, PathBuf) {
    let output = peers.command("cosign").current_dir(folder).arg("generate-key-pair").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    (folder.join("cosign.key"), folder.join("cosign.pub"))
}

/// Signs `reference` in cosign's old format (`.sig` tag) or its new one (bundle as referrer).
fn sign(peers: &Peers, key: &Path, reference: &str, format: &str) {
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

fn cosign_verifies(peers: &Peers, key: &Path, reference: &str) -> bool {
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

fn publish(host: &str, path: &str, seed: u64) -> String {
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
