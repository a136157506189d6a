//! Drives cosign: keys, signatures and verification, without a transparency log or a network.

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::{Timestamp, ToSpan as _};

use crate::peers::{AUTONOMY, Peers, text};

/// A private key in cosign's format, encrypted with the password of the peers, and its public key.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) private: PathBuf,
    pub(crate) public: PathBuf,
}

impl Keys {
    /// Made by cosign: ECDSA on P-256.
    pub(crate) fn generated(peers: &Peers, folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let output = peers.command("cosign").current_dir(folder).arg("generate-key-pair").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        Self::of(folder, "cosign")
    }

    /// Made here, in PKCS #8, and imported by cosign.
    pub(crate) fn imported(peers: &Peers, folder: &Path, pkcs8: &[u8]) -> Self {
        use base64::Engine as _;
        std::fs::create_dir_all(folder).unwrap();
        let body = base64::engine::general_purpose::STANDARD.encode(pkcs8);
        let open = folder.join("open.pem");
        std::fs::write(&open, format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")).unwrap();
        let mut command = peers.command("cosign");
        command.current_dir(folder).args(["import-key-pair", "--key", "open.pem"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        Self::of(folder, "import-cosign")
    }

    fn of(folder: &Path, name: &str) -> Self {
        Self { private: folder.join(format!("{name}.key")), public: folder.join(format!("{name}.pub")) }
    }

    pub(crate) fn private(&self) -> &str {
        self.private.to_str().unwrap()
    }

    pub(crate) fn public(&self) -> &str {
        self.public.to_str().unwrap()
    }
}

/// The forms in which cosign attaches a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Under the tag `sha256-<hex>.sig`.
    Legacy,
    /// As a bundle that refers to what it signs.
    Bundle,
    /// The legacy payload, in a manifest that refers to the signed image; experimental in cosign.
    Oci11,
}

impl Form {
    pub(crate) const ALL: [Self; 3] = [Self::Legacy, Self::Bundle, Self::Oci11];

    /// The name in the table; our own flag has the same names for the first two.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Bundle => "bundle",
            Self::Oci11 => "oci-1-1",
        }
    }
}

/// A signing time this many years ago.
pub(crate) fn years_ago(years: i64) -> String {
    let time = Timestamp::now() - (years * 365 * 24).hours();
    Timestamp::from_second(time.as_second()).unwrap().to_string()
}

/// `cosign sign` with the signing time that our verification requires.
pub(crate) fn sign(peers: &Peers, keys: &Keys, reference: &str, form: Form) {
    sign_as_of(peers, keys, reference, form, Some(&years_ago(0)), &[]);
}

/// The same with any signing time or none, and with more flags.
pub(crate) fn sign_as_of(peers: &Peers, keys: &Keys, reference: &str, form: Form, at: Option<&str>, more: &[&str]) {
    let mut command = signer(peers, "sign", keys, form);
    if let Some(at) = at {
        command.args(["-a", &format!("autonomy.signed-at={at}")]);
    }
    let output = command.args(more).arg(reference).output().unwrap();
    assert!(output.status.success(), "cosign sign: {}", text(&output));
}

/// `cosign attest`, of a type that is not an image signature.
pub(crate) fn attest(peers: &Peers, keys: &Keys, reference: &str, form: Form) {
    let predicate = keys.private.with_file_name("predicate.json");
    std::fs::write(&predicate, r#"{"autonomy.signed-at":"2026-01-15T12:00:00Z"}"#).unwrap();
    let mut command = signer(peers, "attest", keys, form);
    command.args(["--type", "custom", "--predicate", predicate.to_str().unwrap(), reference]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "cosign attest: {}", text(&output));
}

fn signer(peers: &Peers, verb: &str, keys: &Keys, form: Form) -> Command {
    let mut command = peers.command("cosign");
    command.args([verb, "--key", keys.private(), "--use-signing-config=false", "--tlog-upload=false", "-y"]);
    command.args(["--allow-http-registry", &format!("--new-bundle-format={}", form == Form::Bundle)]);
    if form == Form::Oci11 {
        command.env("COSIGN_EXPERIMENTAL", "1").arg("--registry-referrers-mode=oci-1-1");
    }
    command
}

/// The result of `cosign verify`: nothing, or the reason for a failure.
pub(crate) fn verify(peers: &Peers, keys: &Keys, reference: &str, form: Form) -> Result<(), String> {
    verify_with(peers, keys, reference, form, &[])
}

/// The same with more flags.
pub(crate) fn verify_with(
    peers: &Peers,
    keys: &Keys,
    reference: &str,
    form: Form,
    more: &[&str],
) -> Result<(), String> {
    let mut command = peers.command("cosign");
    command.args(["verify", "--key", keys.public(), "--insecure-ignore-tlog", "--allow-http-registry"]);
    if form == Form::Oci11 {
        command.arg("--experimental-oci11");
    }
    let output = command.args(more).arg(reference).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(text(&output)) }
}

/// This program, with the password that the peers use.
pub(crate) fn autonomy(arguments: &[&str]) -> std::process::Output {
    Command::new(AUTONOMY).env("COSIGN_PASSWORD", "").args(arguments).output().unwrap()
}

/// The verdict of our verification: `ok`, or the failure class.
pub(crate) fn judged(keys: &Keys, reference: &str) -> String {
    let done = autonomy(&["verify", "--output", "json", "--image", reference, "--pub", keys.public()]);
    let report: serde_json::Value =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|why| panic!("{why}: {}", text(&done)));
    let class = report.pointer("/steps/0/class").or_else(|| report.pointer("/error/class"));
    let verdict = class.and_then(serde_json::Value::as_str).unwrap_or("ok");
    assert_eq!((done.status.success(), report["verified"] == true), (verdict == "ok", verdict == "ok"), "{report:#}");
    verdict.to_owned()
}
