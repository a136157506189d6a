//! Credential helpers when the environment holds passwords, and PATH entries that must not be searched.
#![cfg(unix)]

use super::{Person, basic, guarded, open_source};
use crate::kit::command::{assert_code, text};

const GIVING: &str = "env > seen\necho '{\"Username\":\"robot\",\"Secret\":\"correct:horse\"}'\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_sees_no_password_of_ours_and_is_not_taken_from_where_one_happens_to_be() {
    let (person, source, sink) = (Person::new(), open_source().await, guarded(basic()).await);
    person.write(".docker/config.json", r#"{"credsStore":"spy"}"#);
    person.helper("spy", GIVING);
    let (from, to, out) = (format!("{}/app:v1", source.host()), format!("{}/app:v1", sink.host()), person.path("out"));
    let seed = |path: String| {
        let mut command = person.command(&["registry", "seed", "--allow-insecure-registry", "--skip-verify"]);
        command.args(["--from", &from, "--to", &to, "--out"]).arg(&out).current_dir(person.home.path());
        command.env("COSIGN_PASSWORD", "secret-of-the-key").env("AUTONOMY_TRUST_TIME", "false");
        command.env("https_proxy", "http://gate:secret-of-the-gate@127.0.0.1:9").env("AWS_PROFILE", "edge");
        command.env("PATH", path);
        super::piped(command, "")
    };
    for path in ["bin:/usr/bin:/bin", ":/usr/bin:/bin", "./bin:/usr/bin:/bin"] {
        if path.starts_with(':') {
            std::fs::copy(person.path("bin/docker-credential-spy"), person.path("docker-credential-spy")).unwrap();
        }
        let done = seed(path.into()).await;
        assert_code(&done, 4);
        assert!(text(&done).contains("docker-credential-spy (cannot be run"), "{}", text(&done));
        assert!(!person.path("seen").exists(), "{path}: a helper was run from the folder one is in");
    }
    assert_code(&seed(format!("{}:/usr/bin:/bin", person.path("bin").display())).await, 0);
    let seen = person.read("seen");
    assert!(!seen.contains("secret") && !seen.contains("AUTONOMY_"), "{seen}");
    assert!(seen.contains("https_proxy=http://127.0.0.1:9/") && seen.contains("AWS_PROFILE=edge"), "{seen}");
    assert!(seen.contains(&format!("HOME={}", person.home.path().display())), "{seen}");
}
