//! The peers: their names, and the command lines that make them do the work of autonomy.

use crate::tool::When;

/// A peer: its name, the program behind `{program}`, the template, the one over TLS, and when.
pub(crate) type Peer = (&'static str, &'static str, &'static str, Option<&'static str>, When);

/// All known peers; the bench looks for installed ones when it needs them.
pub(crate) const PEERS: [Peer; 8] = [
    (
        "skopeo",
        "skopeo",
        "{program} --insecure-policy copy --all --quiet --src-tls-verify=false --dest-tls-verify=false \
            docker://{from} docker://{to}",
        Some(
            "{program} --insecure-policy copy --all --quiet --src-cert-dir {certs} --dest-cert-dir {certs} \
            docker://{from} docker://{to}",
        ),
        When::Always,
    ),
    (
        "regctl",
        "regctl",
        "{program} image copy --host reg={from-host},tls=disabled --host reg={to-host},tls=disabled {from} {to}",
        Some("env SSL_CERT_FILE={ca} {program} image copy {from} {to}"),
        When::Always,
    ),
    // Only its configuration can set more requests at once.
    ("regctl-16", "regctl", "env REGCTL_CONFIG={regctl} {program} image copy {from} {to}", None, When::Far),
    ("regsync", "regsync", "{program} once -c {regsync}", None, When::Catalog),
    (
        "crane",
        "crane",
        "{program} copy --insecure {from} {to}",
        Some("env SSL_CERT_FILE={ca} {program} copy {from} {to}"),
        When::Always,
    ),
    ("crane-16", "crane", "{program} copy --insecure -j 16 {from} {to}", None, When::Far),
    (
        "oras",
        "oras",
        "{program} cp --from-plain-http --to-plain-http {from} {to}",
        Some("{program} cp --from-ca-file {ca} --to-ca-file {ca} {from} {to}"),
        When::Always,
    ),
    ("oras-16", "oras", "{program} cp --concurrency 16 --from-plain-http --to-plain-http {from} {to}", None, When::Far),
];
