//! `zarf.yaml`: a catalog's images as a Zarf package.

use serde::Serialize;

use crate::oci::Reference;

/// A package of images.
#[derive(Debug)]
pub(crate) struct PackageFile<'a> {
    /// A [`legal_name`].
    pub(crate) name: &'a str,
    /// The version of the package.
    pub(crate) version: &'a str,
    /// The images of the package, each once; at least one.
    pub(crate) images: &'a [Reference],
}

// Field names are those of Zarf's own schema (zarf.dev/v1alpha1).

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Package<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    components: [Component<'a>; 1],
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
struct Component<'a> {
    name: &'a str,
    required: bool,
    images: Vec<String>,
}

impl PackageFile<'_> {
    /// Returns the text of the file.
    pub(crate) fn render(&self) -> String {
        let images = self.images.iter().map(ToString::to_string).collect();
        super::yaml(&Package {
            api_version: "zarf.dev/v1alpha1",
            kind: "ZarfPackageConfig",
            metadata: Metadata { name: self.name, version: self.version },
            components: [Component { name: self.name, required: true, images }],
        })
    }
}

/// Returns `name` in the form that Zarf accepts, `[a-z0-9][a-z0-9-]*`: in lower case, with a hyphen for everything else.
/// Returns `None` if nothing is left.
pub(crate) fn legal_name(name: &str) -> Option<String> {
    let mut legal = String::new();
    for c in name.chars() {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => legal.push(c),
            _ if legal.is_empty() || legal.ends_with('-') => {}
            _ => legal.push('-'),
        }
    }
    let legal = legal.trim_end_matches('-');
    (!legal.is_empty()).then(|| legal.to_owned())
}

/// Returns whether `version` can be part of a file's name and a tag, the two places where Zarf uses it; in the tag another
/// character replaces a plus.
pub(crate) fn is_legal_version(version: &str) -> bool {
    version.replace('+', "_").parse::<crate::oci::Tag>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_holds_the_images_in_their_order() {
        let images: Vec<Reference> =
            ["a.example/robot:v1", "docker.io/nginx:1.27"].map(|text| text.parse().unwrap()).to_vec();
        let text = PackageFile { name: "fleet", version: "1.2.3", images: &images }.render();
        let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "apiVersion": "zarf.dev/v1alpha1",
            "kind": "ZarfPackageConfig",
            "metadata": {"name": "fleet", "version": "1.2.3"},
            "components": [
                {"name": "fleet", "required": true, "images": ["a.example/robot:v1", "docker.io/library/nginx:1.27"]}
            ],
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn names_are_made_legal() {
        for (name, legal) in [
            ("fleet", "fleet"),
            ("My Fleet", "my-fleet"),
            ("Fleet_2.0 (edge)", "fleet-2-0-edge"),
            ("--x--", "x"),
            ("ÄB", "b"),
            ("a/../b", "a-b"),
        ] {
            assert_eq!(legal_name(name).as_deref(), Some(legal));
        }
        assert_eq!((legal_name("---"), legal_name(""), legal_name("日本")), (None, None, None));
    }

    #[test]
    fn versions_that_are_no_tag_are_refused() {
        for (version, is_legal) in [
            ("0.0.0", true),
            ("1.2.3-rc.1+build", true),
            ("", false),
            ("../x", false),
            ("1 2", false),
            ("a/b", false),
            ("###X###", false),
        ] {
            assert_eq!(is_legal_version(version), is_legal, "{version}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_name_is_legal_or_refused(name in "\\PC{0,30}") {
            if let Some(legal) = legal_name(&name) {
                let is_fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                proptest::prop_assert!(legal.chars().all(is_fit) && !legal.starts_with('-'), "{}", legal);
                proptest::prop_assert_eq!(legal_name(&legal), Some(legal));
            }
        }
    }
}
