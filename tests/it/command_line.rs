//! The command line as a contract: exit codes, where output goes, what help says.

use crate::seed::{assert_code, autonomy, text};

#[tokio::test]
async fn help_and_version_go_to_stdout_with_exit_0() {
    for arguments in
        [&["--help"][..], &["--version"], &["registry", "seed", "--help"], &["registry", "serve", "--help"]]
    {
        let done = autonomy(arguments).await;
        assert_code(&done, 0);
        assert!(!done.stdout.is_empty() && done.stderr.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn help_lists_every_exit_code_and_every_documented_flag() {
    let help = text(&autonomy(&["--help"]).await);
    for code in ["0  ", "1  ", "2  ", "3  ", "4  ", "5  ", "130"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(code.trim_end())), "{code:?} in {help}");
    }
    let help = text(&autonomy(&["registry", "seed", "--help"]).await);
    for flag in [
        "--from",
        "--to",
        "--copy-policy",
        "--pub-key",
        "--skip-verify",
        "--rekor-key",
        "--require-tlog",
        "--allow-insecure-registry",
        "--out",
        "--transport",
        "--accessories",
        "--deep",
        "--jobs",
        "--output",
        "--progress",
        "--authfile",
        "--ca-file",
        "--cert-dir",
        "--verbose",
        "--quiet",
    ] {
        assert!(help.contains(flag), "{flag} is not in the help");
    }
}

#[tokio::test]
async fn the_readme_names_every_flag() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    for command in ["seed", "publish-index", "bootstrap-zot", "package", "login", "logout", "serve", "gc"] {
        let help = text(&autonomy(&["registry", command, "--help"]).await);
        let flags = help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 3);
        // A value may stand behind the name, in brackets if it may be left out.
        let name = |word: &str| word.split(['[', '=']).next().unwrap_or_default().to_owned();
        for flag in flags.map(|word| name(word.trim_end_matches([',', '.', ';', ':', ']']))) {
            let flag = flag.as_str();
            let is_known = ["--help", "--version", "--verbose", "--quiet"].contains(&flag) || readme.contains(flag);
            assert!(is_known, "{flag} of {command} is not in the README");
        }
    }
}

#[tokio::test]
async fn an_unknown_flag_is_a_usage_error_on_stderr() {
    let done = autonomy(&["registry", "seed", "--form", "a.example/b:c"]).await;
    assert_code(&done, 2);
    assert!(done.stdout.is_empty() && text(&done).contains("--from"), "{}", text(&done));
}

#[tokio::test]
async fn serving_beyond_loopback_in_plain_http_needs_a_flag() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().to_str().unwrap();
    let done = autonomy(&["registry", "serve", "--listen", "0.0.0.0:0", "--data-dir", folder]).await;
    assert_code(&done, 2);
    assert!(text(&done).contains("--allow-insecure-registry"), "{}", text(&done));
}

#[tokio::test]
async fn a_certificate_needs_its_key_and_clients_need_a_certificate() {
    for arguments in [&["--tls-cert", "a.pem"][..], &["--tls-key", "a.pem"], &["--client-ca", "a.pem"]] {
        let done = autonomy(&[&["registry", "serve", "--data-dir", "/nonexistent"], arguments].concat()).await;
        assert_code(&done, 2);
    }
    let files = ["--tls-cert", "/nonexistent/a.pem", "--tls-key", "/nonexistent/a.key"];
    let done =
        autonomy(&[&["registry", "serve", "--listen", "0.0.0.0:0", "--data-dir", "/nonexistent"], &files[..]].concat())
            .await;
    assert_code(&done, 2);
    assert!(text(&done).contains("read certificate /nonexistent/a.pem"), "TLS needs no permission: {}", text(&done));
}

#[tokio::test]
async fn passwords_in_plain_text_beyond_this_machine_are_warned_of() {
    let home = tempfile::tempdir().unwrap();
    let users = home.path().join("users");
    std::fs::write(&users, "ann:nonsense").unwrap();
    for (listen, is_warned) in [("0.0.0.0:0", true), ("127.0.0.1:0", false)] {
        let fixed = ["registry", "serve", "--allow-insecure-registry", "--listen", listen, "--data-dir"];
        let done = autonomy(&[&fixed[..], &["/nonexistent", "--htpasswd", users.to_str().unwrap()]].concat()).await;
        // It ends because the file is of no use; by then it has warned.
        assert_code(&done, 2);
        assert_eq!(
            text(&done).contains("warning: passwords cross the network in plain text"),
            is_warned,
            "{}",
            text(&done)
        );
    }
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_is_a_local_failure() {
    let done = autonomy(&["registry", "serve", "--listen", "127.0.0.1:0", "--data-dir", "/proc/nowhere"]).await;
    assert_code(&done, 1);
    assert!(text(&done).contains("open the data folder /proc/nowhere"), "{}", text(&done));
}
