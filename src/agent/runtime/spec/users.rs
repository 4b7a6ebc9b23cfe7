//! Who a process is: a user and groups of the container's own `/etc/passwd` and `/etc/group`.
//!
//! Pure: the texts are read by whoever calls, without leaving the container's root. The rules are Docker's, odd ones
//! too: a number that the file has brings the group that stands there; one that it has not brings group 0.

/// Who a process is, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    /// The user.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
    /// All its groups, the main one first.
    pub groups: Vec<u32>,
    /// Where it is at home.
    pub home: String,
}

/// Why nobody can be meant. In Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoSuchUser(String),
    /// No such group.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoSuchGroup(String),
    /// A number that is no ID.
    #[error("uids and gids must be in range 0-2147483647")]
    OutOfRange(String),
}

const GREATEST: u32 = i32::MAX as u32;

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Who `user[:group]` with these further groups is, by the texts of the two files. An empty user is root.
pub fn resolve(
    user: &str,
    further: &[String],
    passwd: &str,
    group: &str,
) -> Result<ResolvedUser, UserError> {
    let (wanted, wanted_group) = user.split_once(':').unwrap_or((user, ""));
    let wanted = if wanted.is_empty() { "0" } else { wanted };
    let number = number(wanted)?;
    let found = users(passwd).find(|user| user.name == wanted || Some(user.uid) == number);
    let mut resolved = ResolvedUser {
        home: "/".to_owned(),
        ..ResolvedUser::default()
    };
    match (&found, number) {
        (Some(user), _) => {
            resolved.uid = user.uid;
            resolved.gid = user.gid;
            if !user.home.is_empty() {
                user.home.clone_into(&mut resolved.home);
            }
        }
        (None, Some(uid)) => resolved.uid = uid,
        (None, None) => return Err(UserError::NoSuchUser(wanted.to_owned())),
    }
    let mut own = Vec::new();
    if !wanted_group.is_empty() {
        resolved.gid = find_group(wanted_group, group)?;
    } else if let Some(user) = &found {
        let of_user = groups(group).filter(|g| g.members.split(',').any(|name| name == user.name));
        own.extend(of_user.map(|group| group.gid));
    }
    resolved.groups.push(resolved.gid);
    for name in further {
        own.push(find_group(name, group)?);
    }
    for gid in own {
        if !resolved.groups.contains(&gid) {
            resolved.groups.push(gid);
        }
    }
    Ok(resolved)
}

fn find_group(wanted: &str, text: &str) -> Result<u32, UserError> {
    let number = number(wanted)?;
    let found = groups(text).find(|group| group.name == wanted || Some(group.gid) == number);
    found
        .map(|group| group.gid)
        .or(number)
        .ok_or_else(|| UserError::NoSuchGroup(wanted.to_owned()))
}

/// The number that a text is; `None` when it is a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse::<i64>() {
            Ok(_) => Err(UserError::OutOfRange(text.to_owned())),
            Err(_) => Ok(None),
        };
    }
    let id = text.parse().ok().filter(|id| *id <= GREATEST);
    id.map(Some)
        .ok_or_else(|| UserError::OutOfRange(text.to_owned()))
}

fn users(text: &str) -> impl Iterator<Item = User<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default();
        Some(User {
            name,
            uid,
            gid,
            home,
        })
    })
}

fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or_default();
        Some(Group { name, gid, members })
    })
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "# comment\nroot:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/srv:/bin/sh\n\
        broken\n1000:x:7:8::/seven:\nlong:x:1000:1001::/home/long:/bin/sh";
    const GROUP: &str =
        "root:x:0:\nbin:x:1:root,web\nwheel:x:10:root\nstaff:x:50:\nweb:x:44:\nbad\n";

    #[track_caller]
    fn check(user: &str, further: &[&str], expected: (u32, u32, &[u32], &str)) {
        let further: Vec<String> = further.iter().map(|name| (*name).to_owned()).collect();
        let found = resolve(user, &further, PASSWD, GROUP).unwrap();
        let got = (found.uid, found.gid, &*found.groups, &*found.home);
        assert_eq!(got, expected, "{user}");
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        check("", &[], (0, 0, &[0, 1, 10], "/root"));
        check("root", &[], (0, 0, &[0, 1, 10], "/root"));
        check("web", &[], (33, 44, &[44, 1], "/srv"));
        check("33", &["staff", "77"], (33, 44, &[44, 1, 50, 77], "/srv"));
        check("web:staff", &["bin"], (33, 50, &[50, 1], "/srv"));
        check("5:6", &[], (5, 6, &[6], "/"));
        check("4242", &[], (4242, 0, &[0], "/"));
    }

    #[test]
    fn a_name_of_digits_that_stands_first_is_who_is_meant() {
        check("1000", &[], (7, 8, &[8], "/seven"));
    }

    #[test]
    fn nobody_is_refused_in_the_words_of_docker() {
        let refused = |user, further: &[String]| {
            let error = resolve(user, further, PASSWD, GROUP).unwrap_err();
            error.to_string()
        };
        assert_eq!(
            refused("nosuch", &[]),
            "unable to find user nosuch: no matching entries in passwd file"
        );
        assert_eq!(
            refused("web:nosuch", &[]),
            "unable to find group nosuch: no matching entries in group file"
        );
        assert_eq!(
            refused("", &["absent".to_owned()]),
            "unable to find group absent: no matching entries in group file"
        );
        for wrong in ["2147483648", "-1", "99999999999999999999"] {
            assert!(
                refused(wrong, &[]).ends_with("in range 0-2147483647"),
                "{wrong}"
            );
        }
    }
}
