//! How one file is laid over another, and a service over the one that it extends. Pure.
//!
//! Both are written out already. Mappings are joined; of lists those with keys are joined by them, commands are
//! replaced, and others go on.

use serde_json::Value;

/// Lists that are replaced as a whole.
const REPLACED: [&str; 3] = ["command", "entrypoint", "test"];

/// `over` laid over `base`.
pub(super) fn merge(base: Value, over: Value) -> Value {
    join("", base, over)
}

fn join(key: &str, base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (key, value) in over {
                let joined = match base.remove(&key) {
                    Some(old) => join(&key, old, value),
                    None => value,
                };
                base.insert(key, joined);
            }
            base.into()
        }
        (Value::Array(_), Value::Array(over)) if REPLACED.contains(&key) => over.into(),
        (Value::Array(base), Value::Array(over)) => lists(key, base, over).into(),
        // A key that the upper file only names says nothing.
        (base, Value::Null) => base,
        (_, over) => over,
    }
}

fn lists(key: &str, mut base: Vec<Value>, over: Vec<Value>) -> Vec<Value> {
    for value in over {
        match base.iter().position(|old| same(key, old, &value)) {
            Some(at) => base[at] = value,
            None => base.push(value),
        }
    }
    base
}

/// Whether an element takes the place of another.
fn same(key: &str, old: &Value, new: &Value) -> bool {
    let both = |fields: &[&str]| fields.iter().all(|field| old.get(field) == new.get(field));
    match key {
        "ports" => both(&["TargetPort", "PublishedPort", "Protocol"]),
        "volumes" => both(&["target"]),
        "secrets" | "configs" => both(&["source", "target"]),
        _ => old == new,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_is_laid_over_another() {
        let base = json!({
            "services": {"web": {
                "image": "a:1", "command": ["x", "y"], "environment": {"A": "1", "B": "2"},
                "volumes": [{"type": "volume", "source": "old", "target": "/d"}], "dns": ["1.1.1.1"],
                "ports": [{"TargetPort": 80, "PublishedPort": 80, "Protocol": "tcp"}],
            }},
        });
        let over = json!({
            "services": {
                "web": {
                    "image": "a:2", "command": ["z"], "environment": {"B": "3"}, "user": null, "dns": ["1.1.1.1", "8.8.8.8"],
                    "volumes": [{"type": "volume", "source": "new", "target": "/d"}],
                    "ports": [{"TargetPort": 90, "PublishedPort": 90, "Protocol": "tcp"}],
                },
                "db": {"image": "b"},
            },
        });
        let joined = merge(base, over);
        let web = &joined["services"]["web"];
        assert_eq!(web["image"], "a:2");
        assert_eq!(web["command"], json!(["z"]));
        assert_eq!(web["environment"], json!({"A": "1", "B": "3"}));
        assert_eq!(web["volumes"][0]["source"], "new");
        assert_eq!(web["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(web["ports"].as_array().unwrap().len(), 2);
        assert_eq!(web["dns"], json!(["1.1.1.1", "8.8.8.8"]));
        assert_eq!(joined["services"]["db"], json!({"image": "b"}));
    }
}
