//! Third-party clients against the embedded registry: push, pull, list, attach.

use autonomy_registry::document::roll_up::{RollUp, RollUpTotals};

use crate::Case;
use crate::peers::{AUTONOMY, Kind, Peers, Server};

pub(crate) const CASES: &[Case] = &[
    Case { name: "skopeo pushes to the embedded registry and pulls from it", needs: &["skopeo", "crane"], run: skopeo },
    Case { name: "crane pushes, copies, lists and deletes at the embedded registry", needs: &["crane"], run: crane },
    Case {
        name: "regctl copies, attaches and lists at the embedded registry",
        needs: &["regctl", "crane"],
        run: regctl,
    },
    Case {
        name: "oras and regctl find a published roll-up at every registry",
        needs: &["oras", "regctl"],
        run: published,
    },
    Case { name: "oras pushes, attaches and discovers at the embedded registry", needs: &["oras", "crane"], run: oras },
];

/// A small image under `repository:v1`, made by crane from nothing.
fn base(peers: &Peers, server: &Server, repository: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let layer = folder.path().join("layer.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&layer).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, "hello", &b"hello"[..]).unwrap();
    tar.finish().unwrap();
    let reference = format!("{}/{repository}:v1", server.host);
    peers.run("crane", ["append", "--insecure", "-f", layer.to_str().unwrap(), "-t", &reference]);
    reference
}

fn skopeo(peers: &Peers) {
    let server = Server::start(peers, Kind::Embedded);
    let reference = base(peers, &server, "base");
    let folder = tempfile::tempdir().unwrap();
    let layout = format!("oci:{}:v1", folder.path().join("layout").display());
    let copied = format!("docker://{}/copied:v1", server.host);
    peers.run("skopeo", ["copy", "--src-tls-verify=false", &format!("docker://{reference}"), &layout]);
    peers.run("skopeo", ["copy", "--dest-tls-verify=false", &layout, &copied]);
    let tags = peers.run("skopeo", ["list-tags", "--tls-verify=false", &format!("docker://{}/copied", server.host)]);
    assert!(tags.contains("\"v1\""), "{tags}");
    peers.run("skopeo", ["delete", "--tls-verify=false", &copied]);
    assert!(
        !peers.command("skopeo").args(["inspect", "--tls-verify=false", &copied]).output().unwrap().status.success()
    );
}

fn crane(peers: &Peers) {
    let server = Server::start(peers, Kind::Embedded);
    let reference = base(peers, &server, "base");
    let digest = peers.run("crane", ["digest", "--insecure", &reference]);
    let copied = format!("{}/team/copied:v2", server.host);
    peers.run("crane", ["copy", "--insecure", &reference, &copied]);
    assert_eq!(peers.run("crane", ["digest", "--insecure", &copied]), digest);
    peers.run("crane", ["validate", "--insecure", "--remote", &copied]);
    let repositories = peers.run("crane", ["catalog", "--insecure", &server.host]);
    assert_eq!(repositories, "base\nteam/copied");
    assert_eq!(peers.run("crane", ["ls", "--insecure", &format!("{}/team/copied", server.host)]), "v2");
    peers.run("crane", ["tag", "--insecure", &copied, "v3"]);
    peers.run("crane", ["delete", "--insecure", &format!("{}/team/copied@{digest}", server.host)]);
    assert!(!peers.command("crane").args(["digest", "--insecure", &copied]).output().unwrap().status.success());
}

fn regctl(peers: &Peers) {
    let server = Server::start(peers, Kind::Embedded);
    let reference = base(peers, &server, "base");
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = peers.command("regctl");
        let host = format!("reg={},tls=disabled", server.host);
        let output = command.env("HOME", home.path()).args(["--host", &host]).args(arguments).output().unwrap();
        assert!(output.status.success(), "regctl {arguments:?}: {}", crate::peers::text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let copied = format!("{}/copied:v1", server.host);
    run(&["image", "copy", &reference, &copied]);
    let file = home.path().join("sbom.json");
    std::fs::write(&file, "{\"spdxVersion\":\"SPDX-2.3\"}").unwrap();
    let kind = "application/spdx+json";
    run(&["artifact", "put", "--artifact-type", kind, "--subject", &copied, "-f", file.to_str().unwrap()]);
    let listed = run(&["artifact", "list", &copied, "--format", "{{range .Descriptors}}{{.ArtifactType}}{{end}}"]);
    assert_eq!(listed, kind);
    let tree = run(&["artifact", "tree", &copied]);
    assert!(tree.contains(kind), "{tree}");
    assert_eq!(run(&["tag", "ls", &format!("{}/copied", server.host)]), "v1", "no fallback tag: the API is used");
}

fn oras(peers: &Peers) {
    let server = Server::start(peers, Kind::Embedded);
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("a.txt"), "a").unwrap();
    let run = |arguments: &[&str]| {
        let output = peers.command("oras").current_dir(home.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "oras {arguments:?}: {}", crate::peers::text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let reference = format!("{}/artifact:v1", server.host);
    run(&["push", "--plain-http", "--artifact-type", "application/x.test", &reference, "a.txt:text/plain"]);
    run(&["attach", "--plain-http", "--artifact-type", "application/x.note", &reference, "a.txt:text/plain"]);
    let found = run(&["discover", "--plain-http", "--format", "json", &reference]);
    assert!(found.contains("application/x.note"), "{found}");
    std::fs::remove_file(home.path().join("a.txt")).unwrap();
    run(&["pull", "--plain-http", &reference]);
    assert_eq!(std::fs::read(home.path().join("a.txt")).unwrap(), b"a");
    run(&["cp", "--from-plain-http", "--to-plain-http", "-r", &reference, &format!("{}/copy:v1", server.host)]);
    assert!(
        run(&["discover", "--plain-http", "--format", "json", &format!("{}/copy:v1", server.host)]).contains("x.note")
    );
}

fn published(peers: &Peers) {
    for kind in Kind::all(peers) {
        let server = Server::start(peers, kind);
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("rollup.json");
        let rollup = RollUp::new("catalog.yaml".into(), jiff::Timestamp::UNIX_EPOCH, vec![], RollUpTotals::default());
        let bytes = rollup.to_json().unwrap();
        std::fs::write(&file, &bytes).unwrap();
        let parent = format!("{}/fleet/catalog:stable", server.host);
        for verb in ["published", "unchanged"] {
            let done = std::process::Command::new(AUTONOMY)
                .args(["registry", "publish-index", "--allow-insecure-registry", "--to", &parent, "--manifest"])
                .arg(&file)
                .output()
                .unwrap();
            assert!(done.status.success(), "{}: {}", kind.name(), crate::peers::text(&done));
            assert!(crate::peers::text(&done).starts_with(verb), "{}: {}", kind.name(), crate::peers::text(&done));
        }
        let found = peers.run(
            "oras",
            ["discover", "--plain-http", "--format", "json", "--artifact-type", RollUp::MEDIA_TYPE, &parent],
        );
        let found: serde_json::Value = serde_json::from_str(&found).unwrap();
        let entries = found["referrers"].as_array().or(found["manifests"].as_array()).unwrap();
        assert_eq!(entries.len(), 1, "{}: {found}", kind.name());
        let digest = entries[0]["digest"].as_str().unwrap();

        let listed = peers
            .command("regctl")
            .env("HOME", home.path())
            .args(["--host", &format!("reg={},tls=disabled", server.host), "artifact", "list", &parent])
            .args(["--filter-artifact-type", RollUp::MEDIA_TYPE])
            .args(["--format", "{{range .Descriptors}}{{.Digest}}{{end}}"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), digest, "{}", kind.name());

        let artifact = format!("{}/fleet/catalog@{digest}", server.host);
        peers.run("oras", ["pull", "--plain-http", "-o", home.path().to_str().unwrap(), &artifact]);
        assert_eq!(std::fs::read(home.path().join(RollUp::FILE)).unwrap(), bytes, "{}", kind.name());
    }
}
