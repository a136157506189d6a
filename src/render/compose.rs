//! `docker-compose.zot.yml`: zot in a container, for docker compose and podman compose.

use super::yaml::Yaml;
use super::zot::{CONFIG_PATH, DATA_PATH};
use crate::oci::Reference;

/// What the compose file says.
#[derive(Debug)]
pub(crate) struct Compose<'a> {
    /// The image, pinned.
    pub(crate) image: &'a Reference,
    /// The port on the host and in the container.
    pub(crate) port: u16,
    /// The configuration on the host; relative paths begin with `./` and at the compose file's folder.
    pub(crate) config: &'a str,
    /// The folder of the data on the host, likewise.
    pub(crate) data: &'a str,
}

impl Compose<'_> {
    /// The file.
    pub(crate) fn render(&self) -> String {
        let command = vec![Yaml::text("serve"), Yaml::text(CONFIG_PATH)];
        // The long form: in the short one a colon in a path would divide it.
        let config = Yaml::Map(vec![
            ("type", Yaml::text("bind")),
            ("source", literal(self.config)),
            ("target", Yaml::text(CONFIG_PATH)),
            ("read_only", Yaml::Flag(true)),
        ]);
        let data = Yaml::Map(vec![
            ("type", Yaml::text("bind")),
            ("source", literal(self.data)),
            ("target", Yaml::text(DATA_PATH)),
            ("bind", Yaml::Map(vec![("create_host_path", Yaml::Flag(true))])),
        ]);
        let zot = Yaml::Map(vec![
            ("image", literal(&self.image.to_string())),
            ("command", Yaml::List(command)),
            ("restart", Yaml::text("unless-stopped")),
            ("ports", Yaml::List(vec![Yaml::text(format!("{0}:{0}", self.port))])),
            ("volumes", Yaml::List(vec![config, data])),
        ]);
        Yaml::Map(vec![("services", Yaml::Map(vec![("zot", zot)]))]).to_string()
    }
}

/// A text that compose takes as it is: it would put the environment's variables in place of `$NAME`.
fn literal(text: &str) -> Yaml {
    Yaml::text(text.replace('$', "$$"))
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
