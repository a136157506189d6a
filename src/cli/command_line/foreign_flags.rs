//! Flags that people know from skopeo, crane, docker, oras, regctl and cosign, and the flags of this program for the same.

use clap::Command;

/// Flags of other programs that mean the same.
pub(crate) struct ForeignFlag {
    /// The spellings that other programs have.
    pub(crate) spellings: &'static [&'static str],
    /// The advice for this program. The row counts for the commands that have every flag that this text names.
    pub(crate) tip: &'static str,
}

const fn foreign(spellings: &'static [&'static str], tip: &'static str) -> ForeignFlag {
    ForeignFlag { spellings, tip }
}

/// The first row that counts for a command is shown.
pub(crate) const FOREIGN_FLAGS: [ForeignFlag; 33] = [
    foreign(
        &[
            "--tls-verify",
            "--src-tls-verify",
            "--dest-tls-verify",
            "--insecure",
            "--from-insecure",
            "--to-insecure",
            "--plain-http",
            "--from-plain-http",
            "--to-plain-http",
            "--allow-http-registry",
            "--insecure-registry",
            "--insecure-skip-tls-verify",
        ],
        "--allow-insecure-registry permits plain HTTP; certificates are always verified, and --ca-file names an authority",
    ),
    foreign(&["--username"], "--user USER names the user"),
    foreign(
        &["-p", "--password"],
        "--password-stdin reads the password from stdin; without it the program asks for it",
    ),
    foreign(&["-p", "--publish"], "--port N names the port"),
    foreign(
        &[
            "--creds",
            "--src-creds",
            "--dest-creds",
            "-u",
            "--user",
            "--username",
            "--src-username",
            "--dest-username",
            "--from-username",
            "--to-username",
            "-p",
            "--password",
            "--src-password",
            "--dest-password",
            "--from-password",
            "--to-password",
            "--registry-token",
            "--src-registry-token",
            "--dest-registry-token",
        ],
        "logins are kept in files: autonomy registry login HOST writes one, and --authfile FILE names another",
    ),
    foreign(
        &["--src-authfile", "--dest-authfile", "--registry-config", "--from-registry-config", "--to-registry-config"],
        "--authfile FILE has the logins of both registries",
    ),
    foreign(&["--src-cert-dir", "--dest-cert-dir"], "--cert-dir DIR is for both registries"),
    foreign(&["--from-ca-file", "--to-ca-file", "--cacert"], "--ca-file PEM is for all registries"),
    foreign(
        &["--all", "-a", "--multi-arch", "--all-platforms"],
        "all platforms are copied without a flag; --platform picks some",
    ),
    foreign(
        &["--all", "-a", "--multi-arch", "--all-platforms", "--platform"],
        "all platforms are copied without a flag",
    ),
    foreign(
        &["--override-os", "--override-arch", "--override-variant", "--os", "--arch"],
        "--platform os/arch[/variant] picks a platform",
    ),
    foreign(&["--all-tags"], "a catalog copies many tags of a repository: registry seed-catalog"),
    foreign(
        &["--insecure-policy", "--policy"],
        "no policy.json is read: --pub-key names the key that must have signed",
    ),
    foreign(&["--retry-times", "--retry-delay", "--retry", "--retries"], "requests are repeated without a flag"),
    foreign(&["--digestfile", "--iidfile"], "--out DIR gets seed.lock, which holds the digest"),
    foreign(&["--preserve-digests", "--format", "-f"], "images are copied unchanged, with their digests and formats"),
    foreign(&["--remove-signatures"], "--accessories none leaves out everything that is attached"),
    foreign(
        &["--recursive", "-r", "--referrers", "--digest-tags", "--include-external"],
        "--accessories says what is copied with an image; the default is everything",
    ),
    foreign(
        &["-j", "--concurrency", "--parallel", "--image-parallel-copies"],
        "--jobs N is the number of large blobs that move at once",
    ),
    foreign(&["--force-recursive"], "--deep checks every node at the destination"),
    foreign(&["--key", "--keys"], "--pub-key FILE names the public key"),
    foreign(&["--key", "--keys"], "--pub FILE names the public key"),
    foreign(
        &["--insecure-ignore-tlog", "--offline", "--rekor-url"],
        "no log is contacted; --rekor-key FILE checks its entries",
    ),
    foreign(&["--src", "--source"], "--from REF names the source"),
    foreign(&["--dst", "--dest", "--destination", "--target"], "--to REF names the destination"),
    foreign(&["--root", "--data", "--storage", "--dir", "--rootdir"], "--data-dir DIR names the folder of the images"),
    foreign(&["--addr", "--address", "--bind", "--http"], "--listen IP:PORT names the address and the port"),
    foreign(
        &["--cert", "--key", "--tls-certificate", "--tls-private-key"],
        "--tls-cert PEM and --tls-key PEM name certificate and key",
    ),
    foreign(&["--auth", "--users"], "--htpasswd FILE names the users"),
    foreign(&["-o", "--json"], "--output json prints the result as JSON"),
    foreign(&["--debug", "-D", "--log-level"], "-v logs retries, -vv every request"),
    foreign(&["--dryrun", "-n"], "--dry-run shows what would be done"),
    foreign(&["-y", "--assume-yes", "--no-confirm"], "--yes acts without a question"),
];

/// Returns the tip for an argument that the command does not know.
pub(super) fn tip(named: &str, leaf: &Command) -> Option<&'static str> {
    let has = |flag: &str| leaf.get_arguments().any(|argument| argument.get_long() == Some(flag));
    if named.contains('/') && has("from") && has("to") {
        return Some("write --from REF --to REF");
    }
    let mut rows = FOREIGN_FLAGS.iter().filter(|row| row.spellings.contains(&named));
    rows.find(|row| flags(row.tip).all(has)).map(|row| row.tip)
}

/// Returns the long flags in a text.
pub(crate) fn flags(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', ';', ':']).filter_map(|word| word.strip_prefix("--"))
}
