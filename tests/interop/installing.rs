//! The program as it is installed: completions in other shells, manual pages, units, the image, a release.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::Case;
use crate::cosign::Keys;
use crate::peers::{AUTONOMY, Peers, STATIC, text};

pub(crate) const CASES: &[Case] = &[
    Case { name: "zsh and fish read our completions", needs: &["zsh", "fish"], run: completes },
    Case { name: "mandoc finds no error in our manual pages", needs: &["mandoc"], run: manual_pages },
    Case { name: "systemd accepts our units and calls them safe", needs: &["systemd-analyze"], run: units },
    Case {
        name: "the image is the static program alone, and serves without rights to write elsewhere",
        needs: &[STATIC, "buildah", "root"],
        run: image,
    },
    Case {
        name: "two releases of one program are the same bytes, and cosign verifies their checksums",
        needs: &[STATIC, "cosign"],
        run: release,
    },
];

/// A file of the repository.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[track_caller]
fn done(command: &mut Command) -> String {
    let output: Output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn completes(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    for shell in ["zsh", "fish"] {
        let script = done(Command::new(AUTONOMY).args(["completion", shell]));
        std::fs::write(home.path().join(shell), script).unwrap();
    }
    let mut fish = peers.command("fish");
    fish.args([
        "--no-config",
        "-c",
        "source fish; complete -C 'autonomy registry seed-'; complete -C 'autonomy bundle verify-blob --pub-'",
    ]);
    let offered = done(fish.env("HOME", home.path()).current_dir(home.path()));
    let offered: Vec<_> = offered.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(offered, ["seed-catalog", "--pub-key"]);
    let mut zsh = peers.command("zsh");
    zsh.args(["-f", "-c", "autoload -U compinit; compinit -u -d dump; source zsh; print $_comps[autonomy]"]);
    assert_eq!(done(zsh.env("HOME", home.path()).current_dir(home.path())).trim(), "_autonomy");
}

fn manual_pages(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    done(Command::new(AUTONOMY).args(["man", "--out"]).arg(home.path()));
    let pages: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 20, "only {} pages", pages.len());
    // Errors lose content; warnings are about style.
    done(peers.command("mandoc").args(["-T", "lint", "-W", "error"]).args(&pages));
    let page = home.path().join("autonomy-registry-seed.1");
    let shown = done(peers.command("mandoc").args(["-T", "html"]).arg(page));
    assert!(shown.contains("Copy an image between registries") && shown.contains("--copy-policy"), "{shown}");
}

/// The units, with the program of this test in the place where packages install it.
fn units(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for entry in std::fs::read_dir(file("packaging/systemd")).unwrap() {
        let path = entry.unwrap().path();
        let unit = home.path().join(path.file_name().unwrap());
        std::fs::write(&unit, std::fs::read_to_string(&path).unwrap().replace("/usr/bin/autonomy", AUTONOMY)).unwrap();
        units.push(unit);
    }
    assert_eq!(units.len(), 3);
    let verified = peers.command("systemd-analyze").args(["verify", "--man=no"]).args(&units).output().unwrap();
    assert!(verified.status.success() && verified.stderr.is_empty(), "{}", text(&verified));
    for unit in units.iter().filter(|unit| unit.extension().is_some_and(|ending| ending == "service")) {
        // 2.0 of 10; a unit without any of these settings has 9.6.
        done(peers.command("systemd-analyze").args(["security", "--offline=yes", "--threshold=20"]).arg(unit));
    }
}

/// buildah with a store of its own, so that no image stays on this machine.
fn with_store(mut command: Command, peers: &Peers, home: &Path) -> Command {
    let conf = home.join("storage.conf");
    let folder = |name: &str| home.join(name).display().to_string();
    let text =
        format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n", folder("graph"), folder("run"));
    std::fs::write(&conf, text).unwrap();
    let path = format!("{}:{}", peers.path("buildah").parent().unwrap().display(), std::env::var("PATH").unwrap());
    command.env("CONTAINERS_STORAGE_CONF", conf).env("PATH", path).env("TMPDIR", home);
    command
}

fn image(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let build = |name: &str, to: &str| {
        let mut command = Command::new(file("packaging/image/build"));
        command.arg("--program").arg(peers.path(STATIC)).args(["--name", name, "--to", to]);
        done(&mut with_store(command, peers, home.path()))
    };
    let layout = home.path().join("layout");
    assert!(build("localhost/one:v1", &format!("oci:{}:v1", layout.display())).ends_with("localhost/one:v1\n"));
    build("localhost/two:v1", &format!("oci:{}:again", layout.display()));
    let blob = |digest: &Value| {
        std::fs::read(layout.join("blobs/sha256").join(&digest.as_str().unwrap()["sha256:".len()..])).unwrap()
    };
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digests: Vec<_> = index["manifests"].as_array().unwrap().iter().map(|manifest| &manifest["digest"]).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "the same program gives the same image");
    let manifest: Value = serde_json::from_slice(&blob(digests[0])).unwrap();
    let config: Value = serde_json::from_slice(&blob(&manifest["config"]["digest"])).unwrap();
    let config = &config["config"];
    assert_eq!((&config["User"], &config["Entrypoint"][0]), (&"65532:65532".into(), &"/usr/bin/autonomy".into()));
    assert!(config["ExposedPorts"]["5000/tcp"].is_object() && config["Volumes"]["/data"].is_object(), "{config}");
    assert_eq!(config["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");

    let root = home.path().join("root");
    std::fs::create_dir(&root).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let packed = home.path().join("layer.tar.gz");
        std::fs::write(&packed, blob(&layer["digest"])).unwrap();
        done(Command::new("tar").arg("-xzpf").arg(&packed).arg("-C").arg(&root));
    }
    let mut files = Vec::new();
    list(&root, &root, &mut files);
    assert!(files.contains(&"usr/bin/autonomy".to_owned()) && files.len() < 12, "{files:?}");
    serves(&root, config);
}

/// Starts the command of the image in its root, as its user.
fn serves(root: &Path, config: &Value) {
    let words = |key: &str| -> Vec<String> {
        config[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let command: Vec<_> = words("Entrypoint").into_iter().chain(words("Cmd")).collect();
    let command: Vec<_> = command.iter().map(|word| word.replace("0.0.0.0:5000", "127.0.0.1:0")).collect();
    let mut server = Command::new("chroot")
        .arg("--userspec=65532:65532")
        .arg(root)
        .args(&command)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(server.stdout.take().unwrap()), &mut line).unwrap();
    assert!(line.starts_with("listening on http://127.0.0.1:"), "{line}");
    let address = line.trim().trim_start_matches("listening on http://").to_owned();
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    std::io::Write::write_all(
        &mut stream,
        format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )
    .unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    done(Command::new("kill").args(["-s", "TERM", &server.id().to_string()]));
    assert!(server.wait().unwrap().success());
}

fn list(root: &Path, folder: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            list(root, &path, files);
        } else {
            files.push(path.strip_prefix(root).unwrap().display().to_string());
        }
    }
}

fn release(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let keys = Keys::generated(peers, home.path());
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let write = |name: &str| {
        let out = home.path().join(name);
        let mut command = Command::new(file("packaging/release"));
        command.arg("--program").arg(format!("{target}={}", peers.path(STATIC).display()));
        // The makers of packages take minutes to build; `tests/run long` has them.
        command.args(["--archives-only", "--key", keys.private(), "--out"]).arg(&out).env("COSIGN_PASSWORD", "");
        done(&mut command);
        out
    };
    let (one, two) = (write("one"), write("two"));
    let read = |folder: &Path, name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(read(&one, "SHA256SUMS"), read(&two, "SHA256SUMS"));
    done(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&one));
    let mut verify = peers.command("cosign");
    verify.args(["verify-blob", "--key", keys.public(), "--insecure-ignore-tlog", "--bundle", "SHA256SUMS.sig"]);
    done(verify.arg("SHA256SUMS").current_dir(&one));

    let name = format!("autonomy-registry-{}-{target}", env!("CARGO_PKG_VERSION"));
    let held = done(Command::new("tar").arg("-tzf").arg(one.join(format!("{name}.tar.gz"))));
    for expected in [
        "bin/autonomy",
        "bin/autonomy-registry",
        "completions/_autonomy",
        "man1/autonomy-registry-seed.1.gz",
        "systemd/autonomy-registry.service",
        "LICENSE",
        "THIRD-PARTY-NOTICES",
    ] {
        assert!(held.lines().any(|line| line == format!("{name}/{expected}")), "there is no {expected}: {held}");
    }
    let sbom: Value = serde_json::from_str(&read(&one, &format!("{name}.cdx.json"))).unwrap();
    let parts: Vec<_> = sbom["components"].as_array().unwrap().iter().map(|part| &part["name"]).collect();
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    assert!(parts.iter().any(|name| *name == "rustls") && parts.iter().all(|name| *name != "proptest"), "{parts:?}");
    assets(&target);
}

/// Every file that the metadata of the packages names exists, after a release was written.
fn assets(target: &str) {
    let manifest = std::fs::read_to_string(file("Cargo.toml")).unwrap();
    let quoted = manifest.lines().skip_while(|line| !line.starts_with("[package.metadata.deb]"));
    let quoted = quoted.take_while(|line| !line.starts_with("[lints")).filter_map(|line| {
        let line = line.trim();
        let source = line.strip_prefix("{ source = \"").or_else(|| line.strip_prefix("[\""))?;
        source.split('"').next()
    });
    let mut count = 0;
    for source in quoted {
        count += 1;
        let (folder, name) = source.rsplit_once('/').unwrap_or((".", source));
        let is_there = match name.strip_prefix('*') {
            None => file(source).exists(),
            Some(ending) => std::fs::read_dir(file(folder))
                .unwrap()
                .any(|entry| entry.unwrap().file_name().to_string_lossy().ends_with(ending)),
        };
        assert!(is_there, "Cargo.toml names {source} as part of a package, which is not there for {target}");
    }
    assert!(count > 15, "only {count} files were found");
}
