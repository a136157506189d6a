//! `zot-config.json`: zot as a site's registry.

use serde::Serialize;

/// The path of zot's configuration inside its container.
pub(crate) const CONFIG_PATH: &str = "/etc/zot/config.json";

/// The path of zot's data inside its container.
pub(crate) const DATA_PATH: &str = "/var/lib/registry";

/// The default image: an index of linux/amd64 and linux/arm64, by version.
pub(crate) const IMAGE: &str = "ghcr.io/project-zot/zot:v2.1.21";

/// Whether zot's search extension is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchExtension {
    /// Off: the extension costs memory and a database.
    Off,
    /// On, without vulnerability scans: zot would download their database.
    On,
}

// Field names are those of zot's own configuration (pkg/api/config); zot refuses a file with an unknown field.

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ZotConfig {
    dist_spec_version: &'static str,
    storage: Storage,
    http: Http,
    log: ZotLog,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<Extensions>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Storage {
    root_directory: &'static str,
    /// Garbage collection.
    gc: bool,
    /// Stores a layer that two repositories share once.
    dedupe: bool,
}

#[derive(Serialize)]
struct Http {
    /// All addresses of the container; the compose file maps the host's port.
    address: &'static str,
    /// A string, as zot requires.
    port: String,
    /// Without this zot answers 415 to every image in Docker's format, which is still common.
    compat: [&'static str; 1],
}

#[derive(Serialize)]
struct ZotLog {
    level: &'static str,
}

#[derive(Serialize)]
struct Extensions {
    search: Enabled,
}

#[derive(Serialize)]
struct Enabled {
    enable: bool,
}

/// Returns the configuration of a zot that listens on `port`.
pub(crate) fn config(port: u16, search: SearchExtension) -> String {
    let config = ZotConfig {
        dist_spec_version: "1.1.1",
        storage: Storage { root_directory: DATA_PATH, gc: true, dedupe: true },
        http: Http { address: "0.0.0.0", port: port.to_string(), compat: ["docker2s2"] },
        log: ZotLog { level: "info" },
        extensions: (search == SearchExtension::On).then_some(Extensions { search: Enabled { enable: true } }),
    };
    let mut text = serde_json::to_string_pretty(&config).expect("texts and flags are always JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_collects_garbage_and_keeps_layers_once() {
        let config: serde_json::Value = serde_json::from_str(&config(5001, SearchExtension::Off)).unwrap();
        let expected = serde_json::json!({
            "distSpecVersion": "1.1.1",
            "storage": {"rootDirectory": "/var/lib/registry", "gc": true, "dedupe": true},
            "http": {"address": "0.0.0.0", "port": "5001", "compat": ["docker2s2"]},
            "log": {"level": "info"},
        });
        assert_eq!(config, expected);
    }

    #[test]
    fn search_is_on_only_when_it_is_asked_for() {
        assert!(!config(5000, SearchExtension::Off).contains("extensions"));
        let config: serde_json::Value = serde_json::from_str(&config(5000, SearchExtension::On)).unwrap();
        assert_eq!(config["extensions"], serde_json::json!({"search": {"enable": true}}));
    }

    #[test]
    fn the_image_is_pinned() {
        let image: crate::oci::Reference = IMAGE.parse().unwrap();
        assert!(image.tag.is_some_and(|tag| tag.as_str() != "latest"));
    }
}
