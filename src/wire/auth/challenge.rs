//! `WWW-Authenticate`: the logins that a registry accepts (RFC 9110, section 11.6.1).

/// One way to log in that a peer offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme in lower case, such as `bearer`.
    pub(crate) scheme: String,
    /// Names as they were written, values unquoted.
    pub(crate) parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Returns the value of a parameter, unquoted.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Reads one header value, which may hold several challenges. Skips anything that it cannot parse.
pub(crate) fn parse(value: &str) -> Vec<Challenge> {
    let mut cursor = Cursor { rest: value };
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        cursor.skip(|c| c == ',' || c.is_ascii_whitespace());
        if cursor.rest.is_empty() {
            return found;
        }
        let word = cursor.take(is_token);
        if word.is_empty() {
            // Not a token: no parameter and no scheme can start here.
            cursor.skip(|c| c != ',');
            continue;
        }
        let has_space = cursor.skip(|c| c.is_ascii_whitespace());
        if !cursor.eat('=') {
            found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            if has_space {
                cursor.skip_token68();
            }
            continue;
        }
        cursor.skip(|c| c.is_ascii_whitespace());
        let value = cursor.value();
        if let Some(challenge) = found.last_mut() {
            challenge.parameters.push((word.to_owned(), value));
        }
    }
}

/// Returns whether `c` may be part of a token (RFC 9110, section 5.6.2).
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, accept: fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, accept: fn(char) -> bool) -> bool {
        !self.take(accept).is_empty()
    }

    fn eat(&mut self, wanted: char) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Skips a bare credential such as `Negotiate YII=`, which is not a parameter.
    fn skip_token68(&mut self) {
        let end = self.rest.find([',', ' ', '\t']).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        let body = word.trim_end_matches('=');
        if !word.is_empty() && body.chars().all(|c| is_token(c) || c == '/') {
            // `name=` and `name` followed by `=` are parameters; a credential ends at a comma or at the end.
            let after = self.rest[end..].trim_start();
            if after.is_empty() || after.starts_with(',') {
                self.rest = &self.rest[end..];
            }
        }
    }

    fn value(&mut self) -> String {
        if !self.eat('"') {
            return self.take(|c| c != ',' && !c.is_ascii_whitespace()).to_owned();
        }
        let mut value = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return value;
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        self.rest = "";
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &str) -> Vec<String> {
        let show = |c: &Challenge| {
            let parameters: Vec<_> = c.parameters.iter().map(|(name, value)| format!("{name}=[{value}]")).collect();
            format!("{} {}", c.scheme, parameters.join(" "))
        };
        parse(value).iter().map(show).collect()
    }

    #[test]
    fn challenges_of_the_wild_are_read() {
        for (value, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                vec![
                    "bearer realm=[https://auth.docker.io/token] service=[registry.docker.io] scope=[repository:a/b:pull,push]",
                ],
            ),
            (
                r#"Basic realm="a \"quoted\" one, Bearer realm=x""#,
                vec![r#"basic realm=[a "quoted" one, Bearer realm=x]"#],
            ),
            (
                r#"Negotiate, Basic realm=plain , BEARER realm = "x",error="invalid_token""#,
                vec!["negotiate ", "basic realm=[plain]", "bearer realm=[x] error=[invalid_token]"],
            ),
            (r#"Negotiate YII/a==, Basic realm="x""#, vec!["negotiate ", "basic realm=[x]"]),
            (r#"Bearer realm="never closed"#, vec!["bearer realm=[never closed]"]),
            ("realm=x", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(written(value), expected, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_or_run_on(any in "\\PC{0,80}", close in "[Bb=\", \\\\/a]{0,60}") {
            proptest::prop_assert!(parse(&any).len() <= any.len());
            proptest::prop_assert!(parse(&close).len() <= close.len());
        }

        #[test]
        fn a_quoted_value_comes_back_as_it_was(value in "\\PC{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let found = parse(&format!("Bearer realm=\"{quoted}\", service=x"));
            proptest::prop_assert_eq!(found[0].parameter("REALM"), Some(value.as_str()));
            proptest::prop_assert_eq!(found[0].parameter("service"), Some("x"));
        }
    }
}
