//! `docker-compose.zot.yml`: zot in a container, for docker compose and podman compose.

use serde::Serialize;

use super::zot::{CONFIG_PATH, DATA_PATH};
use crate::oci::Reference;

/// The values of the compose file.
#[derive(Debug)]
pub(crate) struct Compose<'a> {
    /// The image, pinned.
    pub(crate) image: &'a Reference,
    /// The port on the host and in the container.
    pub(crate) port: u16,
    /// The configuration on the host. A relative path begins with `./` and starts at the compose file's folder.
    pub(crate) config: &'a str,
    /// The data folder on the host, likewise.
    pub(crate) data: &'a str,
}

// Field names are those of the Compose Specification.

#[derive(Serialize)]
struct File {
    services: Services,
}

#[derive(Serialize)]
struct Services {
    zot: Service,
}

#[derive(Serialize)]
struct Service {
    image: String,
    command: [&'static str; 2],
    restart: &'static str,
    ports: [String; 1],
    volumes: [Volume; 2],
}

/// The long form: in the short one a colon in a path would divide it.
#[derive(Serialize)]
struct Volume {
    r#type: &'static str,
    source: String,
    target: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind: Option<Bind>,
}

#[derive(Serialize)]
struct Bind {
    create_host_path: bool,
}

impl Compose<'_> {
    /// Returns the text of the file.
    pub(crate) fn render(&self) -> String {
        let volume =
            |source, target| Volume { r#type: "bind", source: literal(source), target, read_only: None, bind: None };
        let config = Volume { read_only: Some(true), ..volume(self.config, CONFIG_PATH) };
        let data = Volume { bind: Some(Bind { create_host_path: true }), ..volume(self.data, DATA_PATH) };
        let zot = Service {
            image: literal(&self.image.to_string()),
            command: ["serve", CONFIG_PATH],
            restart: "unless-stopped",
            ports: [format!("{0}:{0}", self.port)],
            volumes: [config, data],
        };
        super::yaml(&File { services: Services { zot } })
    }
}

/// Escapes `text` for compose, which would put variables of the environment in place of `$NAME`.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(data: &str) -> serde_json::Value {
        let image = super::super::zot::IMAGE.parse().unwrap();
        let text = Compose { image: &image, port: 5001, config: "./zot-config.json", data }.render();
        serde_saphyr::from_str(&text).unwrap()
    }

    #[test]
    fn configuration_and_data_are_mounted_and_the_port_is_served() {
        let zot = &rendered("./zot-data")["services"]["zot"];
        assert_eq!(zot["image"], super::super::zot::IMAGE);
        assert_eq!(zot["ports"], serde_json::json!(["5001:5001"]));
        assert_eq!(zot["command"], serde_json::json!(["serve", "/etc/zot/config.json"]));
        let expected = serde_json::json!([
            {"type": "bind", "source": "./zot-config.json", "target": "/etc/zot/config.json", "read_only": true},
            {"type": "bind", "source": "./zot-data", "target": "/var/lib/registry", "bind": {"create_host_path": true}},
        ]);
        assert_eq!(zot["volumes"], expected);
    }

    #[test]
    fn a_path_is_never_taken_for_a_variable_or_for_syntax() {
        for path in
            ["/srv/$HOME/zot", "/srv/a: b # c", "/srv/\"quoted\"\\", "/srv/ünï\ncode", "/srv/*x", "~/zot", "/a:b:c"]
        {
            let source = rendered(path)["services"]["zot"]["volumes"][1]["source"].clone();
            assert_eq!(source.as_str().unwrap().replace("$$", "$"), path);
            assert!(!source.as_str().unwrap().replace("$$", "").contains('$'), "{source}");
        }
    }
}
