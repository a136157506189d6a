//! htpasswd files: a user and the bcrypt hash of a password on each line.
//!
//! Only bcrypt, as in distribution and zot: anyone who reads the file can guess the other forms that Apache knows (MD5,
//! SHA-1, crypt, plain text) at once.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};

/// Largest file read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Accepted costs: below four bcrypt is not defined, and above fifteen one login takes seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=15;

/// The hash of an unknown password: an unknown user's password is checked against it if there are no users at all.
const NOBODY: &str = "$2y$10$abcdefghijklmnopqrstuuWZMbVVGmXDrQAV.4xqCBnFvmYCC2sFq";

/// Why a line is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error("line {0} is not USER:HASH")]
    Form(usize),
    /// Shows the line number, not the name: the name may be the password if the two were swapped.
    #[error("the hash on line {0} is {1}, only bcrypt is taken")]
    Format(usize, &'static str),
    #[error("the bcrypt hash on line {0} is damaged")]
    Damaged(usize),
    #[error("the bcrypt cost on line {0} is {1}; it must be between {min} and {max}", min = COSTS.start(), max = COSTS.end())]
    Cost(usize, u32),
    #[error("line {0} names a user who was named before")]
    Twice(usize),
}

/// Users and the hashes of their passwords.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Htpasswd(HashMap<String, String>);

impl Htpasswd {
    /// Reads a file. Blocks.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if it does not exist, is too large or is not a list of bcrypt hashes.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self> {
        let path =
            paths.first().ok_or_else(|| Error::new(Kind::Usage, "read passwords").because("no file is named"))?;
        let unusable = |why: Box<dyn std::error::Error + Send + Sync>| {
            let told = Error::new(Kind::Usage, "read passwords").on(path.display()).because(why);
            told.hint("make its lines with: autonomy registry htpasswd USER")
        };
        let size = fs::metadata(path).map_err(|why| unusable(why.into()))?.len();
        if size > MAX_BYTES {
            return Err(unusable(format!("it holds {size} bytes, at most {MAX_BYTES} are read").into()));
        }
        let text = fs::read_to_string(path).map_err(|why| unusable(why.into()))?;
        Self::parse(&text).map_err(|why| unusable(why.into()))
    }

    /// Reads lines of `user:hash`; ignores empty ones and those that begin with `#`.
    ///
    /// # Errors
    ///
    /// The first invalid line: half a file is not what its author meant.
    pub(crate) fn parse(text: &str) -> Result<Self, LineError> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = line.split_once(':').ok_or(LineError::Form(number))?;
            let hash = hash.trim_end();
            check(number, hash)?;
            if user.is_empty() || user.chars().any(char::is_control) {
                return Err(LineError::Form(number));
            }
            if users.insert(user.to_owned(), hash.to_owned()).is_some() {
                return Err(LineError::Twice(number));
            }
        }
        Ok(Self(users))
    }

    /// Returns the hash of that user's password.
    pub(super) fn hash_of(&self, user: &str) -> Option<&str> {
        self.0.get(user).map(String::as_str)
    }

    /// Returns the hash that takes longest, to check the password of an unknown user against.
    pub(super) fn decoy(&self) -> &str {
        self.0.values().max_by_key(|hash| cost(hash)).map_or(NOBODY, String::as_str)
    }

    /// Returns the costs to spend after `hash`, so that checking any hash takes as long as checking the slowest: each
    /// step doubles the work, and `2^c + 2^c + 2^(c+1) + … + 2^(m-1) = 2^m`.
    pub(crate) fn rest(&self, hash: &str) -> Range<u32> {
        let highest = cost(self.decoy()).unwrap_or_default();
        cost(hash).unwrap_or(highest)..highest
    }
}

/// The cost of new hashes: a check takes some 50 ms.
const NEW_COST: u32 = 10;

/// Most bytes of a password that bcrypt reads: it would ignore the rest.
const MAX_PASSWORD_BYTES: usize = 72;

/// Checks that `user` can be a user: that a login can carry the name, that a line of the file can begin with it, and that
/// it does not stand for all users or for none.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) with the reason.
pub(crate) fn check_name(user: &str) -> Result<()> {
    let why = match user {
        "" => "the name is empty",
        "*" | "anonymous" => "this name stands for all users, or for clients without a login",
        _ if user.starts_with('#') => "a line that begins with # is a comment",
        _ if user.contains(':') => "a name ends at the first colon",
        _ if user.chars().any(char::is_control) || user.trim() != user => {
            "a name has no space at its ends, and no control characters"
        }
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Usage, "take the user").on(user).because(why))
}

/// Returns a user's line. Blocks, for as long as a check takes.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) for a name that is none, and for a password that bcrypt would not read to its end.
pub(crate) fn line(user: &str, password: &str) -> Result<String> {
    check_name(user)?;
    let refused = |why: String| Err(Error::new(Kind::Usage, "take the password").because(why));
    if password.is_empty() || password.contains('\0') {
        return refused("it is empty, or has a zero byte in it".to_owned());
    }
    if password.len() > MAX_PASSWORD_BYTES {
        return refused(format!("it has {} bytes, and bcrypt reads {MAX_PASSWORD_BYTES}", password.len()));
    }
    let hash = bcrypt::hash_with_result(password, NEW_COST);
    let hash = hash.map_err(|why| Error::new(Kind::Local, "hash the password").because(why.to_string()))?;
    Ok(format!("{user}:{}", hash.format_for_version(bcrypt::Version::TwoY)))
}

/// Returns the cost that a bcrypt hash names.
pub(crate) fn cost(hash: &str) -> Option<u32> {
    let digits = hash.get(4..6).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    (hash.as_bytes().get(6) == Some(&b'$')).then(|| digits.parse().ok())?
}

/// Checks for `$2y$10$` and 53 characters of bcrypt's own base64: 22 of salt, 31 of hash.
fn check(number: usize, hash: &str) -> Result<(), LineError> {
    if !["$2a$", "$2b$", "$2y$"].iter().any(|version| hash.starts_with(version)) {
        return Err(LineError::Format(number, format_of(hash)));
    }
    let cost = cost(hash).ok_or(LineError::Damaged(number))?;
    let rest = hash.as_bytes().get(7..).unwrap_or_default();
    if rest.len() != 53 || !rest.iter().all(|b| b.is_ascii_alphanumeric() || [b'.', b'/'].contains(b)) {
        return Err(LineError::Damaged(number));
    }
    // The last character of the salt carries two bits, that of the hash four; decoders reject others.
    let is_in = |at: usize, set: &[u8]| rest.get(at).is_some_and(|b| set.contains(b));
    if !is_in(21, b".Oeu") || !is_in(52, b".CGKOSWaeimquy26") {
        return Err(LineError::Damaged(number));
    }
    if COSTS.contains(&cost) { Ok(()) } else { Err(LineError::Cost(number, cost)) }
}

/// Returns the name of the format of a hash that is not bcrypt.
fn format_of(hash: &str) -> &'static str {
    match hash {
        "" => "missing",
        _ if hash.starts_with("$apr1$") || hash.starts_with("$1$") => "MD5",
        _ if hash.starts_with("{SHA}") || hash.starts_with("{SSHA}") => "SHA-1",
        _ if hash.starts_with("$5$") => "SHA-256 crypt",
        _ if hash.starts_with("$6$") => "SHA-512 crypt",
        _ if hash.starts_with("$y$") => "yescrypt",
        _ if hash.starts_with("$argon2") => "Argon2",
        _ => "of another form (crypt, or no hash at all)",
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use super::{Htpasswd, check};

    /// Checks that every accepted hash is one that bcrypt can check, under a name that a login can carry.
    pub(crate) fn htpasswd(text: &str) {
        let Ok(Htpasswd(users)) = Htpasswd::parse(text) else { return };
        for (user, hash) in &users {
            assert!(!user.is_empty() && !user.contains([':', '\n', '\0']), "{user:?}");
            assert!(hash.parse::<bcrypt::HashParts>().is_ok(), "{hash}");
            assert_eq!(check(1, hash), Ok(()));
            assert!(text.contains(&format!("{user}:{hash}")));
        }
        assert!(super::cost(Htpasswd(users).decoy()).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";

    #[test]
    fn users_and_their_hashes_are_read() {
        let text = format!("# site\n\nann:{HASH}\r\nbob:{}\n", HASH.replace("2y", "2b"));
        let users = Htpasswd::parse(&text).unwrap();
        assert_eq!(users.hash_of("ann"), Some(HASH));
        assert!(users.hash_of("bob").is_some() && users.hash_of("# site").is_none() && users.hash_of("").is_none());
        assert_eq!(Htpasswd::parse("").unwrap(), Htpasswd::default());
    }

    #[test]
    fn a_line_that_is_made_is_read_and_its_password_is_right() {
        let line = line("ann", "päss word").unwrap();
        let users = Htpasswd::parse(&line).unwrap();
        assert!(bcrypt::verify("päss word", users.hash_of("ann").unwrap()).unwrap());
        assert!(line.starts_with("ann:$2y$10$"), "{line}");
    }

    #[test]
    fn names_that_are_no_users_and_passwords_that_are_cut_are_refused() {
        for user in ["", "*", "anonymous", "#ann", "a:b", "a\nb", " ann"] {
            assert_eq!(line(user, "secret").unwrap_err().kind(), Kind::Usage, "{user:?}");
        }
        for password in ["", "a\0b", &"x".repeat(73)] {
            let told = line("ann", password).unwrap_err();
            assert!(told.kind() == Kind::Usage && !told.chain().contains("xx"), "{}", told.chain());
        }
        assert!(check_name("Anonymous").is_ok() && check_name("robot$ci").is_ok());
    }

    #[test]
    fn everything_but_bcrypt_is_refused_by_its_name_and_line_and_never_repeated() {
        for (line, why) in [
            ("ann", "is not USER:HASH"),
            (":$2y$05$x", "bcrypt hash on line 2 is damaged"),
            ("ann:", "is missing, only bcrypt"),
            ("ann:$apr1$abc$secret", "is MD5, only bcrypt"),
            ("ann:{SHA}secret", "is SHA-1"),
            ("ann:$6$secret", "is SHA-512 crypt"),
            ("ann:$argon2id$secret", "is Argon2"),
            ("ann:secret", "of another form"),
            ("ann:$2y$05$secret", "is damaged"),
            ("ann:$2y$5$secret", "is damaged"),
            ("ann:$2x$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "of another form"),
            ("ann:$2y$03$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "cost on line 2 is 3"),
            ("ann:$2y$31$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "cost on line 2 is 31"),
            ("ann:$2y$05$c4WoMPo3SXsafkva.HHa6vXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "is damaged"),
            ("first:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "named before"),
        ] {
            let told = Htpasswd::parse(&format!("first:{HASH}\n{line}")).unwrap_err().to_string();
            assert!(told.contains(why) && told.contains("line 2") && !told.contains("secret"), "{line}: {told}");
        }
    }

    #[test]
    fn who_is_unknown_is_held_against_the_slowest_hash() {
        let slow = HASH.replace("$05$", "$12$");
        let users = Htpasswd::parse(&format!("a:{HASH}\nb:{slow}\nc:{HASH}")).unwrap();
        assert_eq!(users.decoy(), slow);
        assert_eq!(check(1, Htpasswd::default().decoy()), Ok(()));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_usage_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let told = |path: &PathBuf| Htpasswd::read(std::slice::from_ref(path)).unwrap_err();
        assert!(told(&path).chain().contains("users"));
        fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
        assert!(told(&path).kind() == Kind::Usage && told(&path).chain().contains("at most"));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(told(&path).kind(), Kind::Usage);
    }
}
