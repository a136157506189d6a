//! Credential helpers: programs called `docker-credential-<name>` that are asked over their standard input.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::Credentials;

/// Longest time that a helper may take; it may have to ask a person or a cloud.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest answer of a helper that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// The user name by which a helper says that the secret is an identity token.
const IS_IDENTITY: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks a helper for the credentials of `server`. The error is one short line without secrets.
pub(super) async fn ask(name: &str, server: &str) -> Result<Option<Credentials>, String> {
    // The name comes out of a file and becomes part of a program's name: no path, no option.
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !is_name {
        return Err("not a helper's name".to_owned());
    }
    run(&format!("docker-credential-{name}"), server).await
}

/// Runs `program get`.
pub(super) async fn run(program: &str, server: &str) -> Result<Option<Credentials>, String> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|why| format!("cannot be run: {}", why.kind()))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let conversation = async {
        if let Some(mut stdin) = stdin {
            // A helper that has answered without reading has closed its end; its answer counts.
            let _ = stdin.write_all(server.as_bytes()).await;
        }
        let mut said = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MAX_ANSWER).read_to_end(&mut said).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, said))
    };
    let (status, said) = match tokio::time::timeout(PATIENCE, conversation).await {
        Ok(Ok(done)) => done,
        Ok(Err(why)) => return Err(format!("breaks off: {}", why.kind())),
        Err(_) => return Err(format!("silent for {} s", PATIENCE.as_secs())),
    };
    if !status.success() {
        // The protocol has no code for "none": the text is what every client compares.
        let text = String::from_utf8_lossy(&said).to_lowercase();
        let is_none = text.contains("credentials not found") || text.contains("no credentials");
        return if is_none { Ok(None) } else { Err(format!("ends with {status}")) };
    }
    let answer: Answer = serde_json::from_slice(&said).map_err(|_| "its answer is not JSON".to_owned())?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(match answer.username.as_str() {
        IS_IDENTITY => Credentials::Identity(answer.secret),
        _ => Credentials::Password { user: answer.username, password: answer.secret },
    }))
}
