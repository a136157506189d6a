//! `autonomy bundle keygen`, the whole program.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use autonomy_registry::verify::{PublicKey, SigningKey};

use crate::kit::command::{assert_code, program, text};

/// `bundle keygen` into `out`, with this password in the environment.
pub(crate) async fn keygen(out: &Path, password: Option<&str>, more: &[&str]) -> Output {
    let mut command = program(&["bundle", "keygen", "--out", out.to_str().unwrap()]);
    command.env_remove("COSIGN_PASSWORD").stdin(Stdio::null());
    if let Some(password) = password {
        command.env("COSIGN_PASSWORD", password);
    }
    command.args(more).output().await.unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_pair_of_keys_fits_together_and_only_its_owner_reads_the_private_one() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("new/keys");
    let done = keygen(&out, Some("secret"), &["--output", "json"]).await;
    assert_code(&done, 0);
    let (private, public) = (out.join("cosign.key"), out.join("cosign.pub"));
    assert_eq!((mode(&private), mode(&public) & 0o600), (0o600, 0o600));
    let key = SigningKey::from_encrypted_pem(&std::fs::read(&private).unwrap(), b"secret").unwrap();
    let public = PublicKey::from_pem(&std::fs::read(&public).unwrap()).unwrap();
    assert!(public.verifies(b"x", &key.sign(b"x").unwrap()));
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["fingerprint"], public.fingerprint());
    assert_eq!(told["private_key"], private.to_str().unwrap());
    assert!(!text(&done).contains("secret"));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2, "nothing else is left behind");
}

#[tokio::test]
async fn keys_that_are_there_stay_unless_they_are_given_up() {
    let home = tempfile::tempdir().unwrap();
    for name in ["cosign.key", "cosign.pub"] {
        let out = home.path().join(name);
        std::fs::create_dir(&out).unwrap();
        std::fs::write(out.join(name), "old").unwrap();
        let done = keygen(&out, Some(""), &[]).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(name) && text(&done).contains("--force"), "{}", text(&done));
        assert_eq!(std::fs::read_to_string(out.join(name)).unwrap(), "old");
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
        assert_code(&keygen(&out, Some(""), &["--force"]).await, 0);
        assert!(SigningKey::from_encrypted_pem(&std::fs::read(out.join("cosign.key")).unwrap(), b"").is_ok());
        assert_eq!(mode(&out.join("cosign.key")), 0o600);
    }
}

#[tokio::test]
async fn without_a_password_and_without_a_terminal_nothing_is_written() {
    let home = tempfile::tempdir().unwrap();
    let done = keygen(home.path(), None, &[]).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("COSIGN_PASSWORD"), "{}", text(&done));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
