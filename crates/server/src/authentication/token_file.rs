//! Bearer tokens out of a file: `--token-auth-file`.

use std::collections::HashMap;
use std::fmt;

use sha2::{Digest, Sha256};

use super::UserInfo;

/// Users by their tokens. The tokens themselves are not kept, and finding one takes no longer for a good guess.
#[derive(Default)]
pub struct TokenFile {
    users: HashMap<[u8; 32], UserInfo>,
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile").field("users", &self.users.len()).finish()
    }
}

impl TokenFile {
    /// Reads lines of `token,user,uid` or `token,user,uid,"group1,group2"`.
    ///
    /// # Errors
    /// What is wrong with which line.
    pub fn parse(text: &str) -> Result<TokenFile, String> {
        let mut users = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let columns =
                columns(line).ok_or_else(|| format!("line {number}: a quoted value does not end"))?;
            let [token, name, uid, rest @ ..] = columns.as_slice() else {
                let found = columns.len();
                return Err(format!(
                    "line {number} must have at least 3 columns (token, user name, user uid), found {found}"
                ));
            };
            if token.is_empty() {
                return Err(format!("line {number} has an empty token"));
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let groups =
                groups.split(',').map(str::trim).filter(|group| !group.is_empty()).map(str::to_owned);
            let user = UserInfo {
                name: name.clone(),
                uid: uid.clone(),
                groups: groups.collect(),
                ..UserInfo::default()
            };
            users.insert(hash(token), user);
        }
        Ok(TokenFile { users })
    }

    pub fn user(&self, token: &str) -> Option<&UserInfo> {
        self.users.get(&hash(token))
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The columns of a line; a quoted one may have commas, and doubled quotes for quotes. `None` if a quote does not end.
fn columns(line: &str) -> Option<Vec<String>> {
    let mut columns = vec![String::new()];
    let mut characters = line.trim_end().chars().peekable();
    let mut is_quoted = false;
    while let Some(character) = characters.next() {
        let column = columns.last_mut()?;
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                column.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => columns.push(String::new()),
            // What surrounds a column is no part of it.
            character if column.is_empty() && !is_quoted && character.is_whitespace() => {}
            character => column.push(character),
        }
    }
    (!is_quoted).then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_token() {
        let file = TokenFile::parse("# ours\nsecret,alice,7,\"dev,ops\"\n\nother, bob ,8\n").unwrap();
        let alice = file.user("secret").unwrap();
        assert_eq!((alice.name.as_str(), alice.uid.as_str()), ("alice", "7"));
        assert_eq!(alice.groups, ["dev", "ops"]);
        assert!(file.user("other").unwrap().groups.is_empty());
        assert!(file.user("").is_none() && file.user("secre").is_none());
    }

    #[test]
    fn bad_lines_are_named() {
        let error = TokenFile::parse("a,b,c\nx,y").unwrap_err();
        assert_eq!(error, "line 2 must have at least 3 columns (token, user name, user uid), found 2");
        assert_eq!(TokenFile::parse(",b,c").unwrap_err(), "line 1 has an empty token");
        assert_eq!(TokenFile::parse("a,b,c,\"d").unwrap_err(), "line 1: a quoted value does not end");
    }
}
