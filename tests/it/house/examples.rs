//! The programs in `examples/`, run as their headers say, against each other.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Path of an example; Cargo builds it if needed.
fn example(name: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--locked", "--example", name, "--"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    // With the variable that times tests, the compiler would rebuild everything.
    cargo.env_remove("RUSTC_BOOTSTRAP").stdin(Stdio::null());
    cargo
}

fn run(name: &str, arguments: &[&str]) -> Output {
    example(name).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The example `serve`, until it is dropped.
struct Served {
    cargo: Child,
    host: String,
}

impl Served {
    fn start(folder: &Path) -> Self {
        let mut cargo = example("serve");
        let mut cargo = cargo.arg(folder).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(cargo.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let host = line.trim().rsplit_once("http://").map(|(_, host)| host.to_owned());
        Self { cargo, host: host.unwrap_or_else(|| panic!("no address in {line:?}")) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.cargo);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::INT);
        let _ = self.cargo.wait();
    }
}

#[test]
fn the_examples_serve_verify_and_copy_an_image() {
    let home = tempfile::tempdir().unwrap();
    // Two registries with signed and forged images, and the key.
    let demo =
        Command::new(env!("CARGO_BIN_EXE_autonomy")).args(["registry", "demo", "--out"]).arg(home.path()).output();
    let demo = demo.unwrap();
    assert!(demo.status.success(), "{}", text(&demo));
    let (upstream, copies) = (Served::start(&home.path().join("upstream")), Served::start(&home.path().join("copies")));
    let image = format!("{}/robot-behavior", upstream.host);
    let key = home.path().join("cosign.pub");
    let key = key.to_str().unwrap();

    let good = run("verify", &[&format!("{image}:v1"), key]);
    assert!(good.status.success() && text(&good).contains("v1 is verified"), "{}", text(&good));
    let forged = run("verify", &[&format!("{image}:forged-image"), key]);
    assert_eq!(forged.status.code(), Some(3), "{}", text(&forged));

    let copy = format!("{}/robot-behavior:v1", copies.host);
    let first = run("copy", &[&format!("{image}:v1"), &copy]);
    assert!(first.status.success() && text(&first).contains("4 manifests"), "{}", text(&first));
    // Read back from there, the image is the same.
    let back = run("copy", &[&copy, &format!("{}/robot-behavior:again", copies.host)]);
    let digest = |output: &Output| text(output).split_whitespace().nth(1).map(str::to_owned);
    assert!(back.status.success() && digest(&back).is_some_and(|digest| digest.contains("sha256:")), "{}", text(&back));
    assert_eq!(digest(&back), digest(&first));
    // The signature was not copied: an image of the same digest is not verified there.
    assert_eq!(run("verify", &[&copy, key]).status.code(), Some(3));
}
