//! Rollback at real registries: previous roots are kept, tags are put back, and new tags are deleted.

use std::process::Command;

use testkit::images::shape;

use crate::Case;
use crate::copies::{block_on, repository};
use crate::peers::{AUTONOMY, Kind, Peers, Server, text};

pub(crate) const CASES: &[Case] = &[Case {
    name: "a catalog's tags go back at every registry",
    needs: &["crane", "docker-registry", "registry3"],
    run: there_and_back,
}];

fn there_and_back(peers: &Peers) {
    let source = Server::start(peers, Kind::Embedded);
    for kind in Kind::all(peers) {
        let sink = Server::start(peers, kind);
        let home = tempfile::tempdir().unwrap();
        let catalog = home.path().join("catalog.yaml");
        let publish = |name: &str, seed: u64| {
            let store = repository(&source.host, name);
            block_on(shape::two_platforms(seed, &[3000]).put(&store, &["v1".parse().unwrap()])).digest
        };
        let seed = |names: &[&str]| {
            let (from, to) = (&source.host, &sink.host);
            let entry = |name: &&str| format!("  - {{from: \"{from}/{name}:v1\", to: \"{to}/site/{name}:v1\"}}\n");
            let text = format!("version: 1\nentries:\n{}", names.iter().map(entry).collect::<String>());
            std::fs::write(&catalog, text).unwrap();
            let mut command = Command::new(AUTONOMY);
            command.args(["registry", "seed-catalog", "--allow-insecure-registry", "--skip-verify", "-q", "--atomic"]);
            command.arg("--catalog").arg(&catalog).arg("--out").arg(home.path()).output().unwrap()
        };
        let (first, new) = (publish("old", 1), publish("new", 2));
        assert!(seed(&["old"]).status.success());
        let second = publish("old", 3);
        let done = seed(&["old", "new"]);
        assert!(done.status.success(), "{}: {}", kind.name(), text(&done));
        let names = |name: &str, tag: &str| {
            let reference = format!("{}/site/{name}:{tag}", sink.host);
            let done = peers.command("crane").args(["digest", "--insecure", &reference]).output().unwrap();
            done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
        };
        assert_eq!(names("old", "v1"), Some(second.to_string()), "{}", kind.name());
        assert_eq!(names("old", &format!("v1-was-{}", first.short())), Some(first.to_string()), "{}", kind.name());

        let mut command = Command::new(AUTONOMY);
        command.args(["registry", "rollback", "--allow-insecure-registry", "--yes", "--manifest"]);
        let done = command.arg(home.path().join("catalog-seed-manifest.json")).output().unwrap();
        assert_eq!(names("old", "v1"), Some(first.to_string()), "{}: {}", kind.name(), text(&done));
        let image = format!("{}/site/old:v1", sink.host);
        peers.run("crane", ["validate", "--remote", &image, "--insecure"]);
        // Not every registry deletes tags; the output says which did not.
        let (code, left) = (done.status.code(), names("new", "v1"));
        let is_told = matches!((code, &left), (Some(0), None)) || (code == Some(5) && left == Some(new.to_string()));
        assert!(is_told, "{}: {}", kind.name(), text(&done));
        println!("table: {:>16}: a new tag is {}", kind.name(), if left.is_none() { "deleted" } else { "left" });
    }
}
