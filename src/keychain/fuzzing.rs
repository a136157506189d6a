//! Properties of credentials files and helpers' answers that hold for any bytes.

use std::path::Path;

use super::config_file::{ConfigEntry, ConfigFile, filed, normal};
use super::{Credentials, credential_helper, edit, keys};

const HOST: &str = "r.example:5000";

/// A readable file can be changed in one place and nowhere else; an unreadable one is not quoted. Every input is also
/// read as a helper's answer.
pub(crate) fn credentials(bytes: &[u8]) {
    for is_success in [true, false] {
        let said = credential_helper::answer(is_success, bytes);
        assert!(is_success || !matches!(said, Ok(Some(_))), "a refusal holds no credentials");
        if let Err(Some(why)) = said {
            assert_eq!(why, "its answer is not JSON");
        }
    }
    let read = ConfigFile::parse(Path::new("x"), bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(config) = read else { return };
    for host in [HOST, "docker.io"] {
        assert_eq!(normal(filed(host)), host);
        changed(text, &config, host);
    }
}

fn changed(text: &str, config: &ConfigFile, host: &str) {
    let own = |config: &ConfigFile| config.entries(&[host.to_owned()]).into_iter().find(is_credentials);
    let (user, password) = ("user", "pass:word \" \\ \u{e9}");
    // Serde also reads a list in place of an object, which no program writes; such a file is never written to.
    let Ok(with) = edit::with(text, host, &edit::LoginEdit::Password { user, password }) else { return };
    let after = ConfigFile::parse(Path::new("x"), with.as_bytes()).expect("what was written can be read");
    let kept = Credentials::Password { user: user.to_owned(), password: password.to_owned() };
    assert_eq!(own(&after), Some(ConfigEntry::Credentials(kept)), "{with}");
    assert_eq!((others(&after, host), after.keeper(host)), (others(config, host), config.keeper(host)), "{with}");
    let without = edit::without(&with, host).expect("what can be read").expect("what was put there");
    let gone = ConfigFile::parse(Path::new("x"), without.as_bytes()).expect("what was written can be read");
    assert_eq!((own(&gone), others(&gone, host)), (None, others(config, host)), "{without}");
    assert_eq!(edit::without(&without, host), Ok(None));
    assert!(keys(host, "a/b").contains(&host.to_owned()));
}

fn is_credentials(entry: &ConfigEntry) -> bool {
    matches!(entry, ConfigEntry::Credentials(_))
}

fn others<'a>(config: &'a ConfigFile, host: &str) -> Vec<(&'a String, &'a Credentials)> {
    config.all().filter(|(key, _)| *key != host).collect()
}
