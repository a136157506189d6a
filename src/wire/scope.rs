//! The scopes of a token: actions on resources (distribution, "Token Scope Documentation").
//!
//! They come from the request, never from a challenge: a registry could ask for a token for another repository, or for
//! more rights than the request needs, and use it elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A set of `type:name:action,action`. Ordered, so that equal sets are equal keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// Returns the scope for reading the repository `path`.
    #[must_use]
    pub fn pull(path: &str) -> Self {
        Self::default().with(&format!("repository:{path}"), &["pull"])
    }

    /// Returns the scopes for reading and writing the repository `path`.
    #[must_use]
    pub fn push(path: &str) -> Self {
        Self::default().with(&format!("repository:{path}"), &["pull", "push"])
    }

    /// Returns the scope for deleting from the repository `path`: a separate right where registries have one.
    #[must_use]
    pub fn delete(path: &str) -> Self {
        Self::default().with(&format!("repository:{path}"), &["delete"])
    }

    /// Returns the scope for listing the repositories of a registry.
    #[must_use]
    pub fn catalog() -> Self {
        Self::default().with("registry:catalog", &["*"])
    }

    /// Returns the union of both sets.
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

    /// Returns whether this set contains all of `other`.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(resource, actions)| self.0.get(resource).is_some_and(|own| own.is_superset(actions)))
    }

    /// Returns one string per resource, in the form that a token service takes.
    pub(crate) fn entries(&self) -> impl Iterator<Item = String> {
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
    fn scopes_are_joined_and_compared() {
        let push = Scopes::push("a/b");
        assert_eq!(push.to_string(), "repository:a/b:pull,push");
        assert!(push.covers(&Scopes::pull("a/b")) && !Scopes::pull("a/b").covers(&push));
        let both = push.clone().and(&Scopes::pull("c"));
        assert_eq!(both.to_string(), "repository:a/b:pull,push repository:c:pull");
        assert_eq!(both.to_string(), "repository:a/b:pull,push repository:c:pull");
        assert!(both.covers(&push) && both.covers(&Scopes::default()) && !push.covers(&both));
    }
}
