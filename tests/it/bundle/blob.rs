//! `autonomy bundle sign-blob` and `verify-blob`, the whole program.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::bundle::keys::keygen;
use crate::kit::command::{assert_code, program, text};

/// A folder with a pair of keys and a file.
struct Desk {
    home: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        assert_code(&keygen(home.path(), Some("secret"), &[]).await, 0);
        std::fs::write(home.path().join("SHA256SUMS"), "12ab  autonomy.tar.gz\n").unwrap();
        Self { home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs `bundle` with these words, in the folder.
    async fn bundle(&self, words: &str) -> Output {
        let words: Vec<_> = ["bundle"].into_iter().chain(words.split(' ')).collect();
        program(&words).current_dir(self.home.path()).env("COSIGN_PASSWORD", "secret").output().await.unwrap()
    }
}

#[tokio::test]
async fn a_signed_file_is_verified_until_a_byte_of_it_changes() {
    let desk = Desk::new().await;
    let done = desk.bundle("sign-blob SHA256SUMS --key cosign.key --bundle SHA256SUMS.sig --output json").await;
    assert_code(&done, 0);
    let signed: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&signed["file"], &signed["bundle"]), (&"SHA256SUMS".into(), &"SHA256SUMS.sig".into()));

    let verify = "verify-blob SHA256SUMS --pub-key cosign.pub --bundle SHA256SUMS.sig";
    let done = desk.bundle(&format!("{verify} --output json")).await;
    assert_code(&done, 0);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&report["verified"], &report["error"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!((&report["digest"], &report["key"]), (&signed["digest"], &signed["key"]));
    assert!(text(&desk.bundle(verify).await).starts_with("verified SHA256SUMS\n"));

    std::fs::write(desk.path("SHA256SUMS"), "12ac  autonomy.tar.gz\n").unwrap();
    let done = desk.bundle(verify).await;
    assert_code(&done, 3);
    let told = text(&done);
    assert!(told.starts_with("not verified SHA256SUMS\n") && told.contains("SIG_DIGEST_MISMATCH"), "{told}");
    let done = desk.bundle(&format!("{verify} --output json")).await;
    assert_code(&done, 3);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&report["verified"], &report["error"]["class"]), (&false.into(), &"SIG_DIGEST_MISMATCH".into()));
}

#[tokio::test]
async fn another_key_and_a_file_without_a_signature_are_refused() {
    let desk = Desk::new().await;
    assert_code(&desk.bundle("sign-blob SHA256SUMS --key cosign.key --bundle sums.sig").await, 0);
    assert_code(&keygen(&desk.path("other"), Some(""), &[]).await, 0);
    let other = desk.bundle("verify-blob SHA256SUMS --pub-key other/cosign.pub --bundle sums.sig").await;
    assert_code(&other, 3);
    assert!(text(&other).contains("SIG_NO_MATCH"), "{}", text(&other));
    let both = "verify-blob SHA256SUMS --pub-key other/cosign.pub --pub-key cosign.pub --bundle sums.sig";
    assert_code(&desk.bundle(both).await, 0);
    let form = desk.bundle("verify-blob SHA256SUMS --pub-key cosign.pub --bundle cosign.pub").await;
    assert_code(&form, 3);
    assert!(text(&form).contains("SIG_FORMAT"), "{}", text(&form));
}

#[tokio::test]
async fn files_that_cannot_be_read_are_usage_errors_and_nothing_is_written() {
    let desk = Desk::new().await;
    assert_code(&desk.bundle("sign-blob SHA256SUMS --key cosign.key --bundle sums.sig").await, 0);
    for (words, expected) in [
        ("sign-blob missing --key cosign.key --bundle new.sig", "open missing"),
        ("sign-blob . --key cosign.key --bundle new.sig", "open ."),
        ("sign-blob SHA256SUMS --key cosign.pub --bundle new.sig", "KEY_INVALID"),
        ("sign-blob SHA256SUMS --key cosign.key --bundle ./SHA256SUMS", "it is the file to sign"),
        ("sign-blob SHA256SUMS --key cosign.key --bundle ..", "it is not the name of a file"),
        ("verify-blob missing --pub-key cosign.pub --bundle sums.sig", "open missing"),
        ("verify-blob SHA256SUMS --pub-key cosign.pub --bundle missing.sig", "read the signature missing.sig"),
        ("verify-blob SHA256SUMS --pub-key cosign.key --bundle sums.sig", "KEY_INVALID"),
    ] {
        let done = desk.bundle(words).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(expected), "{words}: {}", text(&done));
    }
    assert!(!desk.path("new.sig").exists());
    assert!(std::fs::read_to_string(desk.path("SHA256SUMS")).unwrap().starts_with("12ab"));
}

#[tokio::test]
async fn a_signature_of_another_file_is_replaced_whole() {
    let desk = Desk::new().await;
    std::fs::write(desk.path("sums.sig"), "x".repeat(100_000)).unwrap();
    assert_code(&desk.bundle("sign-blob SHA256SUMS --key cosign.key --bundle sums.sig").await, 0);
    assert_code(&desk.bundle("verify-blob SHA256SUMS --pub-key cosign.pub --bundle sums.sig").await, 0);
    assert!(entries(desk.home.path()).iter().all(|name| !name.starts_with('.')), "nothing else is left behind");
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
