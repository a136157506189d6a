//! Accessories that other clients attach are copied, and other clients find them again, on registries with the Referrers
//! API and without.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use autonomy_registry::oci::{Descriptor, MediaType, empty_json};
use autonomy_registry::store::Store;
use serde_json::json;
use testkit::images::{self, shape};

use crate::Case;
use crate::copies::{block_on, repository, seed};
use crate::peers::{AUTONOMY, Kind, Peers, Server, text};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "what cosign and oras attached is found by them, and by regctl, where it was seeded to",
        needs: &["cosign", "oras", "regctl", "docker-registry", "registry3"],
        run: found_again,
    },
    Case {
        name: "two seeds at once at a registry without the Referrers API lose nobody's referrer",
        needs: &["oras", "docker-registry"],
        run: two_at_once,
    },
];

/// Runs a client in a folder of its own; returns its output.
fn run(peers: &Peers, folder: &Path, name: &str, arguments: &[&str]) -> String {
    let output = peers.command(name).current_dir(folder).env("HOME", folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every digest in a text.
fn digests(text: &str) -> BTreeSet<String> {
    let found = text.match_indices("sha256:").map(|(at, _)| text[at..].chars().take(7 + 64).collect::<String>());
    found.filter(|digest| digest[7..].chars().all(|c| c.is_ascii_hexdigit()) && digest.len() == 7 + 64).collect()
}

const COSIGN: [&str; 5] =
    ["--key=cosign.key", "--use-signing-config=false", "--tlog-upload=false", "-y", "--allow-http-registry"];
const VERIFY: [&str; 3] = ["--key=cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry"];

/// Makes a signed image with an SBOM, the SBOM's own signature and a note on it, and an attestation; returns the SBOM's
/// digest.
fn publish(peers: &Peers, home: &Path, host: &str) -> String {
    let root = block_on(shape::two_platforms(1, &[500]).put(&repository(host, "app"), &["v1".parse().unwrap()]));
    let image = format!("{host}/app@{}", root.digest);
    let at = format!("autonomy.signed-at={}", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"));
    let cosign = |command: &str, more: &[&str]| run(peers, home, "cosign", &[&[command], &COSIGN[..], more].concat());
    cosign("sign", &["--new-bundle-format=false", "-a", &at, &image]);
    let attach = |kind: &str, subject: &str| {
        let attach = ["attach", "--plain-http", "--artifact-type", kind, "--format", "json", subject, "file.json"];
        let told: serde_json::Value = serde_json::from_str(&run(peers, home, "oras", &attach)).unwrap();
        told["digest"].as_str().unwrap().to_owned()
    };
    let sbom = attach("application/spdx+json", &image);
    attach("application/x.note", &format!("{host}/app@{sbom}"));
    // As a referrer: only the tags that cosign derives from the image and its platforms are copied.
    cosign("sign", &["--new-bundle-format=true", &format!("{host}/app@{sbom}")]);
    let predicate = ["--predicate", "file.json", "--type", "custom", &image];
    cosign("attest", &[&["--new-bundle-format=true"], &predicate[..]].concat());
    sbom
}

/// The digests that oras and regctl find on the image and on its accessories.
fn found(peers: &Peers, home: &Path, host: &str) -> [BTreeSet<String>; 2] {
    let image = format!("{host}/app:v1");
    let by_oras = run(peers, home, "oras", &["discover", "--plain-http", "--format", "json", &image]);
    let plain = format!("reg={host},tls=disabled");
    let by_regctl = run(peers, home, "regctl", &["--host", &plain, "artifact", "tree", "--digest-tags", &image]);
    [digests(&by_oras), digests(&by_regctl)]
}

fn found_again(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("file.json"), "{}").unwrap();
    run(peers, home.path(), "cosign", &["generate-key-pair"]);
    let key = home.path().join("cosign.pub");
    for from in [Kind::Embedded, Kind::Distribution2] {
        let source = Server::start(peers, from);
        let sbom = publish(peers, home.path(), &source.host);
        let there = found(peers, home.path(), &source.host);
        // SBOM, note, attestation and image; and for regctl the signatures' tags.
        assert!(there[0].len() >= 4 && there[1].len() >= 6, "{there:#?}");
        for to in [Kind::Embedded, Kind::Distribution2, Kind::Distribution3] {
            let sink = Server::start(peers, to);
            let (source, to_ref) = (format!("{}/app:v1", source.host), format!("{}/app:v1", sink.host));
            let out = tempfile::tempdir().unwrap();
            let done = seed(out.path(), &source, &to_ref, &["--pub-key", key.to_str().unwrap()]);
            let what = format!("from {} to {}", from.name(), to.name());
            assert!(done.status.success(), "{what}: {}", text(&done));
            assert_eq!(found(peers, home.path(), &sink.host), there, "{what}");
            let sbom = format!("{}/app@{sbom}", sink.host);
            for image in [&to_ref, &sbom] {
                run(peers, home.path(), "cosign", &[&["verify"], &VERIFY[..], &[image]].concat());
            }
            let attested = [&["verify-attestation", "--type", "custom"], &VERIFY[..], &[&to_ref]].concat();
            run(peers, home.path(), "cosign", &attested);
            println!(
                "table: attachments {what}: the same {} digests by oras, {} by regctl",
                there[0].len(),
                there[1].len()
            );
        }
    }
}

/// Puts a manifest that refers to `subject`; `number` makes it unique.
fn refer(store: &dyn Store, subject: &Descriptor, number: usize) -> Descriptor {
    let (config, bytes) = empty_json();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": "application/x.note", "layers": [config],
        "config": config, "annotations": {"number": number.to_string()}, "subject": subject,
    });
    block_on(async {
        images::put(store, config.media_type.clone(), bytes).await;
        images::put(store, MediaType::OCI_MANIFEST, manifest.to_string()).await
    })
}

fn two_at_once(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let sink = Server::start(peers, Kind::Distribution2);
    let sources = [(); 2].map(|()| Server::start(peers, Kind::Embedded));
    for round in 0..5 {
        let path = format!("app{round}");
        let mut expected = BTreeSet::new();
        for (number, source) in sources.iter().enumerate() {
            let store = repository(&source.host, &path);
            let root = block_on(shape::single_manifest(round, &[300]).put(&store, &["v1".parse().unwrap()]));
            expected.extend((0..3).map(|more| refer(&store, &root, 10 * number + more).digest.to_string()));
            expected.insert(root.digest.to_string());
        }
        let to = format!("{}/{path}:v1", sink.host);
        let runs = sources.each_ref().map(|source| {
            let mut command = Command::new(AUTONOMY);
            command.args(["registry", "seed", "--allow-insecure-registry", "--skip-verify", "--progress", "none"]);
            command.args(["--from", &format!("{}/{path}:v1", source.host), "--to", &to]);
            command.arg("--out").arg(home.path().join(source.host.replace(':', "-")));
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        });
        for run in runs {
            let done = run.wait_with_output().unwrap();
            assert!(done.status.success(), "round {round}: {}", text(&done));
        }
        let listed = run(peers, home.path(), "oras", &["discover", "--plain-http", "--format", "json", &to]);
        assert_eq!(digests(&listed), expected, "round {round}");
    }
    println!("table: five times two seeds at once at distribution 2.8: 6 of 6 referrers listed each time");
}
