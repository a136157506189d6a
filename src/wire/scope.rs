//! What a token is asked for: actions on resources (distribution, "Token Scope Documentation").

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A set of `type:name:action,action`. Ordered, so that equal sets are equal keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// Reading the repository `path`.
    #[must_use]
    pub fn pull(path: &str) -> Self {
        Self::default().with(&format!("repository:{path}"), &["pull"])
    }

    /// Reading and writing the repository `path`.
    #[must_use]
    pub fn push(path: &str) -> Self {
        Self::default().with(&format!("repository:{path}"), &["pull", "push"])
    }

    /// Deleting from the repository `path`: a right of its own where registries have one.
    #[must_use]
    pub fn delete(path: &str) -> Self {
        Self::default().with(&format!("repository:{path}"), &["delete"])
    }

    /// Both sets together.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for (resource, actions) in &other.0 {
            self.0.entry(resource.clone()).or_default().extend(actions.iter().cloned());
        }
        self
    }

    fn with(mut self, resource: &str, actions: &[&str]) -> Self {
        self.0.entry(resource.to_owned()).or_default().extend(actions.iter().map(|&action| action.to_owned()));
        self
    }

    /// Reads the `scope` of a challenge: entries separated by spaces. What is none is left out.
    pub(super) fn parse(text: &str) -> Self {
        text.split_whitespace().filter_map(|entry| entry.rsplit_once(':')).fold(
            Self::default(),
            |scopes, (resource, actions)| {
                let actions: Vec<_> = actions.split(',').filter(|action| !action.is_empty()).collect();
                if actions.is_empty() { scopes } else { scopes.with(resource, &actions) }
            },
        )
    }

    /// Whether everything that `other` asks for is asked for here.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(resource, actions)| {
            self.0.get(resource).is_some_and(|own| own.contains("*") || own.is_superset(actions))
        })
    }

    /// One text an entry, as a token service takes them.
    pub(super) fn entries(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(resource, actions)| {
            format!("{resource}:{}", actions.iter().map(String::as_str).collect::<Vec<_>>().join(","))
        })
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.entries().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_joined_and_compared() {
        let push = Scopes::push("a/b");
        assert_eq!(push.to_string(), "repository:a/b:pull,push");
        assert!(push.covers(&Scopes::pull("a/b")) && !Scopes::pull("a/b").covers(&push));
        let both = push.clone().and(&Scopes::pull("c"));
        assert_eq!(both.to_string(), "repository:a/b:pull,push repository:c:pull");
        assert_eq!(Scopes::parse("repository:c:pull repository:a/b:push,pull"), both);
        assert!(Scopes::parse("registry:catalog:*").covers(&Scopes::parse("registry:catalog:read")));
        assert_eq!(Scopes::parse(" nonsense x: "), Scopes::default());
    }
}
