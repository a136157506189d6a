//! List, inspect and remove at real registries.

use std::process::{Command, Output};

use testkit::images::{self, shape};

use crate::Case;
use crate::copies::{block_on, repository};
use crate::peers::{AUTONOMY, Kind, Peers, Server, text};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "every registry is listed, page by page",
        needs: &["crane", "docker-registry", "registry3"],
        run: listed,
    },
    Case {
        name: "a tag goes alone, and the image with its last tag, at every registry",
        needs: &["crane", "docker-registry", "registry3"],
        run: removed,
    },
    Case {
        name: "a registry that deletes nothing is named and keeps everything",
        needs: &["docker-registry", "registry3"],
        run: refused,
    },
];

fn registry(words: &[&str]) -> Output {
    Command::new(AUTONOMY).arg("registry").args(words).arg("--allow-insecure-registry").output().unwrap()
}

fn lines(done: &Output) -> Vec<String> {
    assert!(done.status.success(), "{}", text(done));
    String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect()
}

fn listed(peers: &Peers) {
    for kind in Kind::all(peers) {
        let server = Server::start(peers, kind);
        let image = shape::two_platforms(1, &[3000]);
        let tags: Vec<_> = (0..12).map(|number| format!("v1.{number}")).collect();
        let put: Vec<_> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let node = block_on(image.put(&repository(&server.host, "fleet/app"), &put));
        block_on(image.put(&repository(&server.host, "other"), &put[..1]));
        assert_eq!(lines(&registry(&["ls", &server.host])), ["fleet/app", "other"], "{}", kind.name());
        let name = format!("{}/fleet/app", server.host);
        assert_eq!(lines(&registry(&["ls", &name])), tags, "{}", kind.name());
        let theirs = peers.run("crane", ["ls", "--insecure", &name]);
        assert_eq!(theirs.lines().count(), tags.len(), "{}", kind.name());
        let done = registry(&["ls", "-l", &name, "--output", "json"]);
        let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(json["tags"][11]["digest"], node.digest.to_string(), "{}", kind.name());
        assert_eq!(json["tags"][11]["size"], image.size(), "{}", kind.name());
    }
}

fn removed(peers: &Peers) {
    for kind in Kind::all(peers) {
        let server = Server::start(peers, kind);
        let store = repository(&server.host, "app");
        let tags = ["v1", "stable"].map(|tag| tag.parse().unwrap());
        let node = block_on(shape::two_platforms(1, &[3000]).put(&store, &tags));
        block_on(shape::two_platforms(2, &[3000]).put(&store, &["other".parse().unwrap()]));
        block_on(images::sidecar(&store, &node, "application/spdx+json", b"{}"));
        let signature = block_on(images::sidecar(&store, &node, "application/x.signature", b"{}"));
        block_on(images::tag(&store, &signature, &format!("sha256-{}.sig", node.digest.hex())));
        let name = format!("{}/app", server.host);
        let digest = |reference: &str| {
            let done = peers.command("crane").args(["digest", "--insecure", reference]).output().unwrap();
            done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
        };
        let shown = registry(&["inspect", &format!("{name}:v1"), "--output", "json"]);
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert!(shown["attached"].as_array().unwrap().len() >= 2, "{}: {shown}", kind.name());

        let by_digest = registry(&["rm", &format!("{name}@{}", node.digest), "--yes"]);
        assert_eq!(by_digest.status.code(), Some(6), "{}: {}", kind.name(), text(&by_digest));
        let alone = registry(&["rm", &format!("{name}:v1"), "--yes"]);
        assert!(alone.status.success(), "{}: {}", kind.name(), text(&alone));
        assert_eq!(digest(&format!("{name}:v1")), None, "{}: {}", kind.name(), text(&alone));
        assert_eq!(digest(&format!("{name}:stable")), Some(node.digest.to_string()), "{}", kind.name());
        peers.run("crane", ["validate", "--remote", &format!("{name}:stable"), "--insecure"]);

        let whole = registry(&["rm", &format!("{name}:stable"), "--yes"]);
        assert!(whole.status.success(), "{}: {}", kind.name(), text(&whole));
        assert_eq!(lines(&registry(&["ls", &name])), ["other"], "{}: {}", kind.name(), text(&whole));
        assert_eq!(digest(&format!("{name}@{}", node.digest)), None, "{}", kind.name());
        peers.run("crane", ["validate", "--remote", &format!("{name}:other"), "--insecure"]);
    }
}

fn refused(peers: &Peers) {
    for kind in [Kind::Distribution2, Kind::Distribution3] {
        let server = Server::start_without_deletion(peers, kind);
        let store = repository(&server.host, "app");
        let tags = ["v1", "stable"].map(|tag| tag.parse().unwrap());
        block_on(shape::two_platforms(1, &[3000]).put(&store, &tags));
        block_on(shape::two_platforms(2, &[3000]).put(&store, &["single".parse().unwrap()]));
        let name = format!("{}/app", server.host);
        for tag in ["v1", "single"] {
            let done = registry(&["rm", &format!("{name}:{tag}"), "--yes"]);
            assert_eq!(done.status.code(), Some(6), "{} {tag}: {}", kind.name(), text(&done));
            assert!(text(&done).contains("REGISTRY_STORAGE_DELETE_ENABLED"), "{}", text(&done));
        }
        assert_eq!(lines(&registry(&["ls", &name])), ["single", "stable", "v1"], "{}", kind.name());
    }
}
