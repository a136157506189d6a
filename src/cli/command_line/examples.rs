//! Examples for the help of every command.

use clap::Command;

/// The examples of a command: its path, and one command line a line.
pub(crate) const EXAMPLES: &[(&str, &str)] = &[
    (
        "autonomy",
        "\
autonomy registry demo
autonomy registry seed --from ghcr.io/acme/app:v1 --to site.example/app:v1 --pub-key cosign.pub
autonomy bundle verify site.example/app:v1 --pub-key cosign.pub",
    ),
    (
        "autonomy registry",
        "\
autonomy registry seed --from ghcr.io/acme/app:v1 --to site.example/app:v1 --pub-key cosign.pub
autonomy registry seed-catalog --catalog catalog.yaml --out record
autonomy registry serve --data-dir /srv/images",
    ),
    (
        "autonomy registry seed",
        "\
autonomy registry seed --from ghcr.io/acme/app:v1 --to site.example/app:v1 --pub-key cosign.pub
autonomy registry seed --from ghcr.io/acme/app:v1 --to site.example/app --pub-key cosign.pub --dry-run
autonomy registry seed --from ghcr.io/acme/app:v1 --to localhost:5000/app --skip-verify --allow-insecure-registry",
    ),
    (
        "autonomy registry seed-catalog",
        "\
autonomy registry seed-catalog --catalog catalog.yaml --out record
autonomy registry seed-catalog --catalog catalog.yaml --out record --atomic --spool /var/spool/images",
    ),
    (
        "autonomy registry sync",
        "\
autonomy registry sync --from-registry ghcr.io --to-registry site.example --repos acme/app:v1 --pub-key cosign.pub
autonomy registry sync --from-registry a.example --to-registry b.example --repos app:v1,fleet/nav:v2 --pub-key cosign.pub --dry-run",
    ),
    (
        "autonomy registry publish-index",
        "\
autonomy registry publish-index --manifest record/catalog-seed-manifest.json --to site.example/fleet:v1
autonomy registry publish-index --manifest record/catalog-seed-manifest.json --to site.example/fleet:v1 --output json",
    ),
    (
        "autonomy registry bootstrap-zot",
        "\
autonomy registry bootstrap-zot --out zot --port 5000
autonomy registry bootstrap-zot --out zot --data-dir /srv/zot --enable-search",
    ),
    (
        "autonomy registry package",
        "\
autonomy registry package --catalog catalog.yaml --name fleet --version 1.2.3
autonomy registry package --catalog catalog.yaml --name fleet --version 1.2.4 --out package --force",
    ),
    (
        "autonomy registry rollback",
        "\
autonomy registry rollback --manifest record/catalog-seed-manifest.json
autonomy registry rollback --manifest record/catalog-seed-manifest.json --yes
autonomy registry rollback --list --out record",
    ),
    (
        "autonomy registry pin",
        "\
autonomy registry pin catalog.yaml --dry-run
autonomy registry pin catalog.yaml",
    ),
    (
        "autonomy registry login",
        "\
autonomy registry login ghcr.io -u robot
autonomy registry login ghcr.io -u robot --password-stdin < token",
    ),
    (
        "autonomy registry ls",
        "\
autonomy registry ls site.example
autonomy registry ls -l site.example/acme/app",
    ),
    (
        "autonomy registry inspect",
        "\
autonomy registry inspect site.example/app:v1
autonomy registry inspect site.example/app:v1 --pub-key cosign.pub --output json",
    ),
    (
        "autonomy registry rm",
        "\
autonomy registry rm site.example/app:v1 --dry-run
autonomy registry rm site.example/app:v1 --yes",
    ),
    (
        "autonomy registry logout",
        "\
autonomy registry logout ghcr.io
autonomy registry logout ghcr.io --authfile auth.json",
    ),
    (
        "autonomy registry serve",
        "\
autonomy registry serve --data-dir /srv/images
autonomy registry serve --data-dir /srv/images --listen 0.0.0.0:443 --tls-cert tls.crt --tls-key tls.key --htpasswd users
autonomy registry serve --data-dir /srv/images --port 5001 --read-only",
    ),
    (
        "autonomy registry gc",
        "\
autonomy registry gc --data-dir /srv/images --dry-run
autonomy registry gc --data-dir /srv/images --untagged --older-than 720h",
    ),
    (
        "autonomy registry check",
        "\
autonomy registry check --data-dir /srv/images
autonomy registry check --data-dir /srv/images --repair-from ghcr.io/acme/app",
    ),
    (
        "autonomy registry demo",
        "\
autonomy registry demo
autonomy registry demo --out tour",
    ),
    (
        "autonomy bundle",
        "\
autonomy bundle keygen --out keys
autonomy bundle seal site.example/app:v1 --key keys/cosign.key --policy policy
autonomy bundle verify site.example/app:v1 --pub-key keys/cosign.pub --require-lock --require-policy",
    ),
    (
        "autonomy bundle verify",
        "\
autonomy bundle verify site.example/app:v1 --pub-key cosign.pub
autonomy bundle verify site.example/app:v1 --pub-key cosign.pub --require-lock --require-policy --output json",
    ),
    (
        "autonomy bundle keygen",
        "\
autonomy bundle keygen
autonomy bundle keygen --out keys",
    ),
    (
        "autonomy bundle seal",
        "\
autonomy bundle seal site.example/app:v1 --key cosign.key
autonomy bundle seal site.example/app:v1 --key cosign.key --policy policy --format both",
    ),
    (
        "autonomy bundle sign-blob",
        "\
autonomy bundle sign-blob release.tar.gz --key cosign.key --bundle release.tar.gz.sig
autonomy bundle sign-blob SHA256SUMS --key cosign.key --bundle SHA256SUMS.sig --output json",
    ),
    (
        "autonomy bundle verify-blob",
        "\
autonomy bundle verify-blob release.tar.gz --pub-key cosign.pub --bundle release.tar.gz.sig
autonomy bundle verify-blob SHA256SUMS --pub-key cosign.pub --bundle SHA256SUMS.sig --output json",
    ),
    (
        "autonomy verify",
        "\
autonomy verify --image site.example/app:v1 --pub cosign.pub
autonomy verify --image site.example/app:v1 --pub cosign.pub --require-lock --require-policy",
    ),
    (
        "autonomy registry htpasswd",
        "\
autonomy registry htpasswd robot >> users
autonomy registry htpasswd robot --password-stdin < password >> users",
    ),
    (
        "autonomy completion",
        "\
autonomy completion bash > autonomy.bash
autonomy completion zsh > _autonomy",
    ),
    (
        "autonomy man",
        "\
autonomy man --out man1
autonomy man --out /usr/local/share/man/man1",
    ),
];

/// Adds the examples to the help of every command, before what stands there.
pub(super) fn applied(command: Command) -> Command {
    let name = command.get_name().to_owned();
    below(command, &name)
}

fn below(command: Command, path: &str) -> Command {
    let command = command.mut_subcommands(|command| {
        let path = format!("{path} {}", command.get_name());
        below(command, &path)
    });
    let Some((_, lines)) = EXAMPLES.iter().find(|(of, _)| *of == path) else { return command };
    let mut text = format!("Examples:\n  {}", lines.replace('\n', "\n  "));
    if let Some(more) = command.get_after_help() {
        text = format!("{text}\n\n{more}");
    }
    command.after_help(text)
}
