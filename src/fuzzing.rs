//! Doors for fuzzing: one function for every parser of bytes that come from elsewhere.
//!
//! Here only with the feature `fuzzing`, for the targets in `fuzz/` and for the test that replays their corpora on a
//! stable compiler (`tests/it/corpora.rs`). A function takes any bytes and panics if a property of the parser does not
//! hold; the properties stand beside the parsers, in the file `fuzzing.rs` of each floor.

macro_rules! targets {
    ($($(#[$doc:meta])* $name:ident = $properties:path;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Panics
            ///
            /// If a property does not hold.
            pub fn $name(bytes: &[u8]) {
                $properties(bytes);
            }
        )*

        /// Every target by its name, which is that of its file in `fuzz/fuzz_targets` and of its folder in `fuzz/corpus`.
        pub const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name)),*];
    };
}

targets! {
    /// `Range` and `Content-Range` as uploads and downloads have them, and `Date`.
    arrived = crate::wire::fuzzing::arrived;
    /// Sigstore bundles, and the statements inside them.
    bundle = crate::verify::fuzzing::bundle;
    /// `WWW-Authenticate`, and the scopes that a challenge names.
    challenge = crate::wire::fuzzing::challenge;
    /// Files of credentials, and answers of credential helpers.
    credentials = crate::wire::fuzzing::credentials;
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
    /// Policy bundles; what is not gzip is taken for the tar inside.
    policy = crate::document::fuzzing::policy;
    /// Bodies of errors; the first two bytes choose the status.
    problem = crate::wire::fuzzing::problem;
    /// References, tags and repository paths.
    reference = crate::oci::fuzzing::reference;
    /// Requests to the embedded registry: path, `Range` or `Content-Range`, and query, a line each.
    request = crate::serve::fuzzing::request;
    /// `seed-manifest.json`.
    seed_manifest = crate::document::fuzzing::seed_manifest;
}
