//! Things that are whole and in the wrong place: signatures of something else, older releases, content changed where it
//! lies.
