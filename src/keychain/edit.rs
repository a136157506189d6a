//! Adds logins to a credentials file and removes them: text in, text out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::config_file::{filed, normal};
use super::json_members::JsonMembers;

/// The new entry for a host.
#[derive(Debug)]
pub(super) enum LoginEdit<'a> {
    /// A name and a password.
    Password { user: &'a str, password: &'a str },
    /// A refresh token, and its user.
    Identity { user: &'a str, token: &'a str },
    /// An empty entry: a helper has the login. It shows docker that there is one.
    Elsewhere,
}

/// Returns the text of the file with this entry for `host`, in place of all its earlier entries.
///
/// # Errors
///
/// Why the text is not a credentials file, without quoting it.
pub(super) fn with(text: &str, host: &str, entry: &LoginEdit<'_>) -> Result<String, String> {
    change(text, |auths| {
        let name = filed(host);
        // Another spelling of the same host would stay behind as a second login.
        auths.remove(|key| normal(key) == host && key != name);
        let mut members = JsonMembers::parse(auths.get(name).unwrap_or_default())?;
        members.remove(|key| ["auth", "username", "password", "identitytoken", "registrytoken"].contains(&key));
        let pack = |user: &str, password: &str| json!(STANDARD.encode(format!("{user}:{password}"))).to_string();
        match entry {
            LoginEdit::Password { user, password } => members.set("auth", pack(user, password))?,
            LoginEdit::Identity { user, token } => {
                members.set("auth", pack(user, ""))?;
                members.set("identitytoken", json!(token).to_string())?;
            }
            LoginEdit::Elsewhere => {}
        }
        auths.set(name, members.text(2))
    })
}

/// Returns the text of the file without `host`, or `None` if the file has no entry for it.
///
/// # Errors
///
/// Fails as [`with`] does.
pub(super) fn without(text: &str, host: &str) -> Result<Option<String>, String> {
    let mut is_changed = false;
    let text = change(text, |auths| {
        is_changed = auths.remove(|key| normal(key) == host);
        Ok(())
    })?;
    Ok(is_changed.then_some(text))
}

fn change(text: &str, edit: impl FnOnce(&mut JsonMembers) -> Result<(), serde_json::Error>) -> Result<String, String> {
    let edited = || {
        let mut file = JsonMembers::parse(text)?;
        let mut auths = JsonMembers::parse(file.get("auths").unwrap_or_default())?;
        edit(&mut auths)?;
        if !(auths.is_empty() && file.get("auths").is_none()) {
            file.set("auths", auths.text(1))?;
        }
        Ok(file.text(0) + "\n")
    };
    // Do not show the parser's own message: it may quote the file.
    edited().map_err(|why: serde_json::Error| {
        format!("not a file of credentials: line {}, column {}", why.line(), why.column())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "{\n\t\"HttpHeaders\": {\n\t\t\"X\": \"1\"\n\t},\n\t\"auths\": {\n\t\t\"b.example\": {\n\t\t\t\"auth\": \"eDp5\"\n\t\t},\n\t\t\"a.example/team\": {\n\t\t\t\"auth\": \"eDp5\"\n\t\t}\n\t},\n\t\"psFormat\": \"x\"\n}\n";

    #[test]
    fn a_login_is_added_without_touching_anything_else() {
        let changed = with(FILE, "a.example", &LoginEdit::Password { user: "u", password: "p" }).unwrap();
        let expected = FILE.replace(
            "\"eDp5\"\n\t\t}\n\t},",
            "\"eDp5\"\n\t\t},\n\t\t\"a.example\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}\n\t},",
        );
        assert_eq!(changed, expected);
        assert_eq!(without(&changed, "a.example").unwrap().as_deref(), Some(FILE));
        assert_eq!(without(FILE, "a.example").unwrap(), None, "a namespace of it is another entry");
    }

    #[test]
    fn a_login_replaces_the_one_before_in_all_its_spellings() {
        let text = r#"{"auths":{"https://r.example/v1/":{"auth":"eDp5"},"r.example":{"email":"e@x","identitytoken":"t","auth":"eDo="}}}"#;
        let changed = with(text, "r.example", &LoginEdit::Password { user: "u", password: "p" }).unwrap();
        let value: serde_json::Value = serde_json::from_str(&changed).unwrap();
        assert_eq!(value, json!({"auths": {"r.example": {"email": "e@x", "auth": "dTpw"}}}));
        let gone = without(text, "r.example").unwrap().unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&gone).unwrap(), json!({"auths": {}}));
    }

    #[test]
    fn docker_hub_is_filed_under_its_old_name_and_new_files_begin_with_a_login() {
        let text = with("", "docker.io", &LoginEdit::Identity { user: "u", token: "t" }).unwrap();
        let expected = json!({"auths": {"https://index.docker.io/v1/": {"auth": "dTo=", "identitytoken": "t"}}});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
        let text = with(&text, "r.example", &LoginEdit::Elsewhere).unwrap();
        assert!(text.contains("\"r.example\": {}") && text.contains("identitytoken"), "{text}");
    }

    #[test]
    fn what_is_no_file_of_credentials_is_not_written_over_and_not_quoted() {
        for text in ["secret", "[\"secret\"]", r#"{"auths":"secret"}"#, r#"{"auths":{"r.example":"secret"}}"#] {
            let why = with(text, "r.example", &LoginEdit::Elsewhere).unwrap_err();
            assert!(why.contains("line 1") && !why.contains("secret"), "{why}");
        }
    }
}
