//! Who may do what: three roles, and what each route asks for. The one table of both is `api::routes`.

use std::fmt;

/// What a person may do in a workspace. Each may do all that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sees everything, changes nothing but their own panels.
    Observer,
    /// Steps in: messages, pause, resume, terminate, kill, spawn.
    Operator,
    /// Configures.
    Admin,
}

impl Role {
    /// Every role, from the least.
    pub const ALL: [Role; 3] = [Role::Observer, Role::Operator, Role::Admin];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Observer => "observer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a route asks of whoever calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Public,
    /// To be signed in, in any role.
    SignedIn,
    /// To be signed in at a browser, in any role: not with an API token.
    InPerson,
    /// At least this role.
    AtLeast(Role),
}

impl Access {
    /// Whether somebody with that role, or (`None`) nobody known, gets in.
    pub fn admits(self, role: Option<Role>) -> bool {
        match (self, role) {
            (Access::Public, _) => true,
            (Access::SignedIn | Access::InPerson, role) => role.is_some(),
            (Access::AtLeast(least), Some(role)) => role >= least,
            (Access::AtLeast(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_what_the_ones_before_it_may() {
        for least in Role::ALL {
            for role in Role::ALL {
                assert_eq!(Access::AtLeast(least).admits(Some(role)), role >= least, "{role} at {least}");
            }
            assert!(!Access::AtLeast(least).admits(None));
        }
        assert!(Access::Public.admits(None) && !Access::SignedIn.admits(None));
        assert!(Role::Observer < Role::Operator && Role::Operator < Role::Admin);
    }
}
