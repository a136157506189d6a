//! Destinations that change what they were given between the copy and the check.
