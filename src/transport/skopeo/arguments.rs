//! The command line for skopeo.

use std::ffi::OsString;
use std::path::Path;

use super::End;
use crate::oci::{Name, Reference};
use crate::transport::LocationScheme;

/// A source or destination, and the folder of certificates for its host.
type SideArguments<'a> = (&'a End, Option<&'a Path>);

/// Returns all arguments after the program's name.
pub(super) fn copy(authfile: Option<&Path>, from: SideArguments<'_>, to: SideArguments<'_>) -> Vec<OsString> {
    // `--preserve-digests` makes skopeo fail if it would otherwise convert a manifest silently.
    let mut arguments: Vec<OsString> =
        ["copy", "--quiet", "--all", "--preserve-digests"].iter().map(OsString::from).collect();
    if let Some(authfile) = authfile {
        arguments.extend(["--authfile".into(), authfile.into()]);
    }
    for (name, (end, certificates)) in [("src", from), ("dest", to)] {
        if let Some(folder) = certificates {
            arguments.extend([format!("--{name}-cert-dir").into(), folder.into()]);
        }
        // Always set: `registries.conf` may call a host insecure, and then a missing flag would mean "any certificate".
        let verify = end.scheme == LocationScheme::Https;
        arguments.push(format!("--{name}-tls-verify={verify}").into());
        if end.scheme == LocationScheme::HttpWithoutLogin {
            arguments.push(format!("--{name}-no-creds").into());
        }
    }
    arguments.extend(["--".into(), source(&from.0.reference).into(), destination(&to.0.reference).into()]);
    arguments
}

/// skopeo refuses references with both tag and digest. At the source, the digest counts.
fn source(reference: &Reference) -> String {
    spelled(reference, reference.name())
}

/// At the destination, the tag is created; `--preserve-digests` keeps the digest.
fn destination(reference: &Reference) -> String {
    let name = reference.tag.clone().map_or_else(|| reference.name(), Name::Tag);
    spelled(reference, name)
}

fn spelled(reference: &Reference, name: Name) -> String {
    let repository = &reference.repository;
    match name {
        Name::Tag(tag) => format!("docker://{repository}:{tag}"),
        Name::Digest(digest) => format!("docker://{repository}@{digest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn end(reference: &str, scheme: LocationScheme) -> End {
        End { reference: reference.parse().unwrap(), scheme }
    }

    fn line(authfile: Option<&str>, from: SideArguments<'_>, to: SideArguments<'_>) -> String {
        let arguments = copy(authfile.map(Path::new), from, to);
        arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn certificates_are_verified_unless_a_side_speaks_plain_http() {
        let (from, to) = (end("a.example/x:1", LocationScheme::Https), end("localhost:5000/y:2", LocationScheme::Http));
        assert_eq!(
            line(None, (&from, None), (&to, None)),
            "copy --quiet --all --preserve-digests --src-tls-verify=true --dest-tls-verify=false \
             -- docker://a.example/x:1 docker://localhost:5000/y:2"
        );
        assert_eq!(
            line(Some("/a"), (&to, Some(Path::new("/c"))), (&from, Some(Path::new("/d")))),
            "copy --quiet --all --preserve-digests --authfile /a --src-cert-dir /c --src-tls-verify=false \
             --dest-cert-dir /d --dest-tls-verify=true -- docker://localhost:5000/y:2 docker://a.example/x:1"
        );
    }

    #[test]
    fn no_credentials_go_to_a_plain_host_that_was_not_named() {
        let (from, to) =
            (end("a.example/x:1", LocationScheme::HttpWithoutLogin), end("localhost:5000/y:2", LocationScheme::Http));
        assert_eq!(
            line(None, (&from, None), (&to, None)),
            "copy --quiet --all --preserve-digests --src-tls-verify=false --src-no-creds --dest-tls-verify=false \
             -- docker://a.example/x:1 docker://localhost:5000/y:2"
        );
    }

    #[test]
    fn a_source_is_read_by_digest_and_a_destination_put_under_its_tag() {
        let both: Reference = format!("a.example/x:1@{D}").parse().unwrap();
        assert_eq!(source(&both), format!("docker://a.example/x@{D}"));
        assert_eq!(destination(&both), "docker://a.example/x:1");
        let pinned: Reference = format!("a.example/x@{D}").parse().unwrap();
        assert_eq!(destination(&pinned), format!("docker://a.example/x@{D}"));
        assert_eq!(source(&"a.example/x".parse().unwrap()), "docker://a.example/x:latest");
    }
}
