//! One credentials file: docker's `config.json`, of which podman's `auth.json` is a subset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::Credentials;

/// The key under which docker stores its logins for Docker Hub.
const HUB_LEGACY: &str = "https://index.docker.io/v1/";
const HUB: &str = "docker.io";

#[derive(Debug)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    auths: BTreeMap<String, AuthsEntry>,
    helpers: BTreeMap<String, Option<String>>,
    store: Option<String>,
}

/// An entry of `auths`, or why it cannot be read; that error matters only to a request that needs the entry.
type AuthsEntry = Result<Credentials, String>;

/// An entry of the file for a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConfigEntry {
    Credentials(Credentials),
    /// Call this helper for this server.
    Helper {
        name: String,
        server: String,
    },
    /// An entry that cannot be read, and why.
    Unreadable(String),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawConfig {
    #[serde(default)]
    auths: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
struct RawAuth {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
    #[serde(default)]
    registrytoken: Option<String>,
}

impl ConfigFile {
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, String> {
        let raw = match bytes.trim_ascii() {
            // Created and not yet written to: `touch auth.json`.
            [] => RawConfig::default(),
            // Do not show the parser's own message: it may quote the file.
            bytes => serde_json::from_slice::<Option<RawConfig>>(bytes)
                .map_err(|why| format!("not a file of credentials: line {}, column {}", why.line(), why.column()))?
                .unwrap_or_default(),
        };
        let mut auths = BTreeMap::new();
        let mut entries: Vec<_> = raw.auths.unwrap_or_default().into_iter().collect();
        // If one host is spelled in several ways, the plain spelling wins: older programs left the others behind.
        entries.sort_by_key(|(key, _)| (key.contains("://") && key != HUB_LEGACY, key.clone()));
        for (key, auth) in entries {
            // Docker Desktop leaves empty entries to say that its credential store has the login.
            let Some(found) = login(auth).transpose() else { continue };
            let found = found.map_err(|why| {
                let key = crate::error::printable(&key);
                tracing::warn!(file = %path.display(), %key, why, "a login cannot be read");
                format!("the auth of {key} {why}")
            });
            auths.entry(normal(&key)).or_insert(found);
        }
        let helpers = raw.cred_helpers.unwrap_or_default().into_iter();
        let helpers = helpers.filter(|(_, name)| !name.is_null());
        Ok(Self {
            path: path.to_owned(),
            auths,
            helpers: helpers.map(|(key, name)| (normal(&key), name.as_str().map(str::to_owned))).collect(),
            store: raw.creds_store.filter(|name| !name.is_empty()),
        })
    }

    /// Returns the helper that keeps the logins of `host`, if the file names one; same rules as docker.
    pub(super) fn keeper(&self, host: &str) -> Option<&str> {
        let own = self.helpers.get(host).and_then(Option::as_ref).filter(|name| !name.is_empty());
        own.or(self.store.as_ref()).map(String::as_str)
    }

    /// Returns every login that the file itself holds.
    #[cfg(feature = "fuzzing")]
    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &Credentials)> {
        self.auths.iter().filter_map(|(key, login)| Some((key, login.as_ref().ok()?)))
    }

    /// Returns the entries for each of `keys` in their order; the store for all hosts comes last.
    pub(super) fn entries(&self, keys: &[String]) -> Vec<ConfigEntry> {
        let mut found = Vec::new();
        for key in keys {
            found.extend(match self.helpers.get(key) {
                Some(Some(name)) if !name.is_empty() => Some(helper(name, key)),
                Some(None) => Some(ConfigEntry::Unreadable(format!("the helper of {key} is not a name"))),
                _ => None,
            });
            let login = self.auths.get(key).cloned();
            found.extend(login.map(|login| login.map_or_else(ConfigEntry::Unreadable, ConfigEntry::Credentials)));
        }
        if let (Some(store), Some(host)) = (&self.store, keys.last()) {
            found.push(helper(store, host));
        }
        found
    }
}

fn helper(name: &str, key: &str) -> ConfigEntry {
    ConfigEntry::Helper { name: name.to_owned(), server: filed(key).to_owned() }
}

/// Returns the name under which docker keeps a host, in its file and with its helpers.
pub(super) fn filed(key: &str) -> &str {
    if key == HUB { HUB_LEGACY } else { key }
}

/// Reads an entry of `auths`. Returns `None` if it is empty.
fn login(entry: Value) -> Result<Option<Credentials>, &'static str> {
    let entry: Option<RawAuth> = serde_json::from_value(entry).map_err(|_| "is not an object of texts")?;
    let auth = entry.unwrap_or_default();
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    if let Some(token) = filled(auth.registrytoken) {
        return Ok(Some(Credentials::Token(token)));
    }
    if let Some(token) = filled(auth.identitytoken) {
        return Ok(Some(Credentials::Identity(token)));
    }
    if let Some(packed) = filled(auth.auth) {
        return unpacked(&packed).map(Some).ok_or("is not base64 of name:password");
    }
    Ok(match (filled(auth.username), filled(auth.password)) {
        (Some(user), Some(password)) => Some(Credentials::Password { user, password }),
        _ => None,
    })
}

/// Decodes base64 of `name:password`, which `base64` without `-w0` and some editors break into lines.
fn unpacked(packed: &str) -> Option<Credentials> {
    let packed: String = packed.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let text = String::from_utf8(STANDARD.decode(packed).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    // Docker's own encoder used to pad with NUL.
    let password = password.trim_end_matches('\0');
    Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() })
}

/// Returns a key without the parts that older clients added, and Docker Hub under its one name.
pub(super) fn normal(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let key = match bare {
        // Only a URL's path can be an API version; without a scheme `v1` may be a namespace.
        Some(rest) => {
            let rest = rest.trim_end_matches('/');
            rest.strip_suffix("/v1").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest)
        }
        None => key.trim_end_matches('/'),
    };
    let (host, path) = key.split_once('/').map_or((key, ""), |(host, path)| (host, path));
    let host = if ["index.docker.io", "registry-1.docker.io"].contains(&host) { HUB } else { host };
    if path.is_empty() || (host == HUB && path == "v1") { host.to_owned() } else { format!("{host}/{path}") }
}
