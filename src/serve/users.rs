//! Who may ask, and what each may see.
//!
//! A password is kept as SCRAM's salted one, which is slow to try and cannot be turned back; it opens both doors. A user
//! that does not exist is answered as slowly, and in the same words, as one that gave a wrong password.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use datafusion_postgres::pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, gen_salted_password, random_nonce};
use sha2::{Digest, Sha256};

use crate::model::principal::Principal;

/// How long a wrong password is thought about, so that guessing is slow.
pub(super) const WRONG_PASSWORD_PAUSE: Duration = Duration::from_millis(500);

/// A password as it is kept.
#[derive(Clone)]
pub struct Salted {
    pub salt: Vec<u8>,
    pub password: Vec<u8>,
}

impl Salted {
    fn new(password: &str) -> Salted {
        let salt = random_nonce().into_bytes();
        let password = gen_salted_password(password, &salt, SCRAM_ITERATIONS);
        Salted { salt, password }
    }

    fn is(&self, password: &str) -> bool {
        let theirs = gen_salted_password(password, &self.salt, SCRAM_ITERATIONS);
        theirs.len() == self.password.len()
            && theirs.iter().zip(&self.password).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
    }
}

/// The users of an installation.
#[derive(Default)]
pub struct Users {
    known: BTreeMap<String, (Principal, Salted)>,
    /// What the made-up salt of an unknown user is derived from, so that it is the same each time.
    secret: String,
}

impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.known.iter().map(|(name, (principal, _))| (name, principal))).finish()
    }
}

impl Users {
    /// Each user by name, with what may be seen and the password.
    pub fn new<'a>(users: impl IntoIterator<Item = (&'a str, Principal, &'a str)>) -> Users {
        let kept = |(name, principal, password): (&str, Principal, &str)| {
            (name.to_owned(), (principal, Salted::new(password)))
        };
        Users { known: users.into_iter().map(kept).collect(), secret: random_nonce() }
    }

    /// True if nobody may ask.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What a user may see.
    pub fn principal(&self, name: &str) -> Option<&Principal> {
        self.known.get(name).map(|(principal, _)| principal)
    }

    /// What a user may see who gave this password.
    pub fn verify(&self, name: &str, password: &str) -> Option<&Principal> {
        match self.known.get(name) {
            Some((principal, salted)) => salted.is(password).then_some(principal),
            None => {
                self.salted(name).is(password);
                None
            }
        }
    }

    /// What SCRAM compares with. For a user that does not exist it is something that no password leads to.
    pub fn salted(&self, name: &str) -> Salted {
        if let Some((_, salted)) = self.known.get(name) {
            return salted.clone();
        }
        let made_up = |purpose: &str| Sha256::digest([purpose, &self.secret, name].join("\0").as_bytes()).to_vec();
        Salted { salt: made_up("salt")[..24].to_vec(), password: made_up("password") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_of_the_right_user_opens() {
        let own = Principal::Organisation("org_1".to_owned());
        let users = Users::new([("ann", own.clone(), "one"), ("bob", Principal::Operator, "two")]);
        assert_eq!(users.verify("ann", "one"), Some(&own));
        for (name, password) in [("ann", "two"), ("ann", ""), ("bob", "one"), ("eve", "one"), ("", "")] {
            assert_eq!(users.verify(name, password), None, "{name}");
        }
        assert!(!format!("{users:?}").contains("one"));
    }

    #[test]
    fn an_unknown_user_looks_like_a_known_one() {
        let users = Users::new([("ann", Principal::Operator, "one")]);
        let (known, unknown) = (users.salted("ann"), users.salted("eve"));
        assert_eq!((known.salt.len(), known.password.len()), (unknown.salt.len(), unknown.password.len()));
        assert_eq!(unknown.salt, users.salted("eve").salt, "it changes from one try to the next");
        assert_ne!(unknown.salt, users.salted("eva").salt);
    }
}
