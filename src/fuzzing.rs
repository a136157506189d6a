//! Entry points for fuzzing: one function for every parser of untrusted bytes.
//!
//! Compiled only with the feature `fuzzing`, for the targets in `fuzz/` and for the test that replays their corpora on a
//! stable compiler (`tests/it/house/corpora.rs`). A function takes any bytes and panics if the parser violates a
//! property; the properties are next to the parsers, in the file `fuzzing.rs` of each module.

macro_rules! targets {
    ($($(#[$doc:meta])* $name:ident = $properties:path;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Panics
            ///
            /// If a property is violated.
            pub fn $name(bytes: &[u8]) {
                $properties(bytes);
            }
        )*

        /// Every target by its name, which is also the name of its file in `fuzz/fuzz_targets` and of its folder in
        /// `fuzz/corpus`.
        pub const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name)),*];
    };
}

targets! {
    /// `Range` and `Content-Range` of uploads and downloads, and `Date`.
    arrived = crate::wire::fuzzing::arrived;
    /// Signatures of files.
    blob = crate::verify::fuzzing::blob;
    /// Sigstore bundles, and the statements inside them.
    bundle = crate::verify::fuzzing::bundle;
    /// `WWW-Authenticate`, and the scopes that a challenge names.
    challenge = crate::wire::fuzzing::challenge;
    /// Files of credentials, and answers of credential helpers.
    credentials = crate::keychain::fuzzing::credentials;
    /// Digests, as in `Docker-Content-Digest`.
    digest = crate::oci::fuzzing::digest;
    /// `Link`, `Content-Range`, `Retry-After`, `Location`.
    header = crate::wire::fuzzing::header;
    /// Files of users and bcrypt hashes.
    htpasswd = crate::serve::fuzzing::htpasswd;
    /// Public keys, encrypted private keys, and signatures.
    key_file = crate::verify::fuzzing::key_file;
    /// Pages of tags and of referrers.
    listing = crate::store::fuzzing::listing;
    /// `autonomy.lock.json`.
    lock = crate::document::fuzzing::lock;
    /// Manifests under every media type.
    manifest = crate::oci::fuzzing::manifest;
    /// Legacy payloads.
    payload = crate::verify::fuzzing::payload;
    /// Policy bundles; bytes that are not gzip are treated as the tar inside.
    policy = crate::document::fuzzing::policy;
    /// Bodies of error responses; the first two bytes choose the status.
    problem = crate::wire::fuzzing::problem;
    /// References, tags and repository paths.
    reference = crate::oci::fuzzing::reference;
    /// Requests to the embedded registry: path, `Range` or `Content-Range`, and query, one per line.
    request = crate::serve::fuzzing::request;
    /// `seed-manifest.json`.
    seed_manifest = crate::document::fuzzing::seed_manifest;
}
