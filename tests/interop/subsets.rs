//! Some platforms of an image, at a registry that requires every manifest an index lists.

use std::process::Command;

use crate::Case;
use crate::copies::seed;
use crate::cosign::{Form, Keys, sign, verify};
use crate::peers::{AUTONOMY, Kind, Peers, Server, text};
use crate::signatures::publish;

pub(crate) const CASES: &[Case] = &[Case {
    name: "a subset is refused as a sparse index, and served rewritten and signed by the site",
    needs: &["cosign", "crane", "skopeo", "docker-registry", "registry3"],
    run: subsets,
}];

const PLATFORMS: [&str; 4] = ["--platform", "linux/amd64", "--platform", "linux/riscv64"];

fn subsets(peers: &Peers) {
    let source = Server::start(peers, Kind::Embedded);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [publisher, site] = folders.each_ref().map(|home| Keys::generated(peers, home.path()));
    sign(peers, &publisher, &publish(&source.host, "app", 1), Form::Legacy);
    let from = format!("{}/app:v1", source.host);
    for kind in [Kind::Distribution2, Kind::Distribution3] {
        let sink = Server::start(peers, kind);
        let to = format!("{}/app:v1", sink.host);
        let out = tempfile::tempdir().unwrap();
        let keyed = ["--pub-key", publisher.public()];

        let refused = seed(out.path(), &from, &to, &[&keyed[..], &PLATFORMS].concat());
        assert_eq!(refused.status.code(), Some(4), "{}", text(&refused));
        assert!(text(&refused).contains("this registry wants all that an index lists"), "{}", text(&refused));
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);

        let signing = ["--rewrite-index", "--sign-key", site.private()];
        let mut command = Command::new(AUTONOMY);
        command.env("COSIGN_PASSWORD", "").args(["registry", "seed", "--allow-insecure-registry", "--from", &from]);
        command.args(["--to", &to, "--out"]).arg(out.path()).args(keyed).args(PLATFORMS).args(signing);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", text(&done));

        let record: serde_json::Value =
            serde_json::from_slice(&std::fs::read(out.path().join("seed-manifest.json")).unwrap()).unwrap();
        assert_eq!(peers.run("crane", ["digest", "--insecure", &to]), record["dest_digest"].as_str().unwrap());
        let layouts = [out.path().join("crane"), out.path().join("skopeo")];
        peers.run("crane", ["pull", "--insecure", "--format", "oci", &to, layouts[0].to_str().unwrap()]);
        let (image, layout) = (format!("docker://{to}"), format!("oci:{}:v1", layouts[1].display()));
        peers.run("skopeo", ["copy", "--all", "--src-tls-verify=false", &image, &layout]);
        assert_eq!(verify(peers, &site, &to, Form::Legacy), Ok(()), "the site's key verifies on {}", kind.name());
        assert!(verify(peers, &publisher, &to, Form::Legacy).is_err(), "the publisher's does not");
        println!("table: 2 of 3 platforms -> {:<16} rewritten, signed, pulled by crane and skopeo", kind.name());
    }
}
