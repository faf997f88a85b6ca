//! Reading people: who they are, their roles, sign-ins, tokens and invitations. They are written by
//! [`Store::apply_records`].

use bus_schema::{UserId, WorkspaceId};

use crate::db::Store;
use crate::error::StoreError;
use crate::journal::{ApiToken, Invitation, Membership, SignIn, User, membership_id};
use crate::value::{Reader, Row, id1, row, text};

/// A record of [`Membership`] as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct MembershipRow {
    /// What it says.
    pub body: Membership,
    /// Its number.
    pub rev: u64,
    /// True if it was taken away.
    pub deleted: bool,
}

impl Store {
    /// A person by email (lower case), with the record's number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user_by_email(&self, email: &str) -> Result<Option<(User, u64)>, StoreError> {
        let sql = "SELECT * FROM user WHERE email = $email AND deleted = false LIMIT 1";
        let rows = self.read("looking a person up", sql, row([("email", text(email))])).await?;
        rows.into_iter().flatten().next().map(user).transpose()
    }

    /// A person by who they are at a sign-in service: issuer, a space, and the subject there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user_by_identity(&self, identity: &str) -> Result<Option<User>, StoreError> {
        let sql = "SELECT * FROM user WHERE identities CONTAINS $identity AND deleted = false LIMIT 1";
        let rows = self.read("looking a person up", sql, row([("identity", text(identity))])).await?;
        Ok(rows.into_iter().flatten().next().map(user).transpose()?.map(|(user, _)| user))
    }

    /// A person, with the record's number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user(&self, id: &UserId) -> Result<Option<(User, u64)>, StoreError> {
        let sql = "SELECT * FROM $id WHERE deleted = false";
        let rows = self.read("reading a person", sql, row([("id", id1("user", id.as_str()))])).await?;
        rows.into_iter().flatten().next().map(user).transpose()
    }

    /// Several people; those that are not there are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        let ids = crate::value::list(ids.iter().map(|id| id1("user", id.as_str())));
        let rows = self.read("reading people", "SELECT * FROM $ids WHERE deleted = false", row([("ids", ids)])).await?;
        rows.into_iter().flatten().map(|found| user(found).map(|(user, _)| user)).collect()
    }

    /// The workspaces of a person with their roles.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn memberships(&self, id: &UserId) -> Result<Vec<Membership>, StoreError> {
        let sql = "SELECT * OMIT id FROM membership WHERE user = $user AND deleted = false";
        let rows = self.read("reading roles", sql, row([("user", text(id.as_str()))])).await?;
        rows.into_iter().flatten().map(|found| membership(found).map(|row| row.body)).collect()
    }

    /// All roles in a workspace, with those that were taken away.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn members(&self, workspace: &WorkspaceId) -> Result<Vec<MembershipRow>, StoreError> {
        let sql = "SELECT * OMIT id FROM membership WHERE workspace = $workspace";
        let rows = self.read("reading roles", sql, row([("workspace", text(workspace.as_str()))])).await?;
        rows.into_iter().flatten().map(membership).collect()
    }

    /// The number of a person's role record in a workspace; 0 if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn membership_rev(&self, workspace: &WorkspaceId, user: &UserId) -> Result<u64, StoreError> {
        Ok(self.record("membership", membership_id(workspace, user)).await?.map_or(0, |(_, rev)| rev))
    }

    /// A sign-in by the hash of its token, with the record's number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sign_in(&self, token_hash: &str) -> Result<Option<(SignIn, u64)>, StoreError> {
        let Some((reader, rev)) = self.record("sign_in", id1("sign_in", token_hash)).await? else {
            return Ok(None);
        };
        Ok(Some((sign_in(reader, token_hash)?, rev)))
    }

    /// The sign-ins of a person, also those that have run out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sign_ins(&self, user: &UserId) -> Result<Vec<SignIn>, StoreError> {
        let sql = "SELECT * FROM sign_in WHERE user = $user AND deleted = false";
        let rows = self.read("reading sign-ins", sql, row([("user", text(user.as_str()))])).await?;
        let read = |found| {
            let mut reader = Reader::new("sign_in", found);
            let hash = reader.key()?;
            sign_in(reader, &hash)
        };
        rows.into_iter().flatten().map(read).collect()
    }

    /// A script's token by its hash.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn api_token(&self, token_hash: &str) -> Result<Option<ApiToken>, StoreError> {
        let found = self.record("api_token", id1("api_token", token_hash)).await?;
        found.map(|(mut reader, _)| reader.document("record")).transpose()
    }

    /// The tokens of a person in a workspace, also those that have run out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn api_tokens(&self, workspace: &WorkspaceId, user: &UserId) -> Result<Vec<ApiToken>, StoreError> {
        let sql = "SELECT * OMIT id FROM api_token WHERE user = $user AND deleted = false";
        let rows = self.read("reading tokens", sql, row([("user", text(user.as_str()))])).await?;
        let read = |found| Reader::new("api_token", found).document::<ApiToken>("record");
        let mut all = rows.into_iter().flatten().map(read).collect::<Result<Vec<_>, _>>()?;
        all.retain(|token| token.workspace == *workspace);
        Ok(all)
    }

    /// An invitation by the hash of its token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invitation(&self, token_hash: &str) -> Result<Option<Invitation>, StoreError> {
        let found = self.record("invitation", id1("invitation", token_hash)).await?;
        found.map(|(mut reader, _)| reader.document("record")).transpose()
    }

    /// The invitations into a workspace, also those that have run out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invitations(&self, workspace: &WorkspaceId) -> Result<Vec<Invitation>, StoreError> {
        let sql = "SELECT * OMIT id FROM invitation WHERE workspace = $workspace AND deleted = false";
        let rows = self.read("reading invitations", sql, row([("workspace", text(workspace.as_str()))])).await?;
        rows.into_iter().flatten().map(|found| Reader::new("invitation", found).document("record")).collect()
    }
}

fn user(found: Row) -> Result<(User, u64), StoreError> {
    let mut reader = Reader::new("user", found);
    let key = reader.key()?;
    let id = UserId::new(&key).map_err(|e| StoreError::Form { table: "user", detail: e.to_string() })?;
    let identities = reader.document::<Option<Vec<String>>>("identities")?.unwrap_or_default();
    let (email, name, password) = (reader.text("email")?, reader.text("name")?, reader.text("password")?);
    Ok((User { id, email, name, password, identities }, reader.number("rev")?))
}

fn membership(found: Row) -> Result<MembershipRow, StoreError> {
    let mut reader = Reader::new("membership", found);
    let body = Membership {
        workspace: reader.parsed("workspace")?,
        user: reader.parsed("user")?,
        role: reader.text("role")?,
        // Rows of the first schema have none.
        disabled: reader.document::<Option<bool>>("disabled")?.unwrap_or_default(),
    };
    Ok(MembershipRow { body, rev: reader.number("rev")?, deleted: reader.flag("deleted")? })
}

fn sign_in(mut reader: Reader, token_hash: &str) -> Result<SignIn, StoreError> {
    if let Some(whole) = reader.document::<Option<SignIn>>("record")? {
        return Ok(whole);
    }
    // Rows of the first schema have no more than this.
    Ok(SignIn {
        token_hash: token_hash.to_owned(),
        user: reader.parsed("user")?,
        created: reader.time("created")?,
        expires: reader.time("expires")?,
        agent: None,
        address: None,
    })
}
