//! A model as a stack file again: ports in the words of the Compose Specification. Pure.

use serde_json::{Value, json};

/// The model with nothing in docker's JSON left.
pub(super) fn shown(mut model: Value) -> Value {
    let services = model["services"].as_object_mut();
    for service in services
        .into_iter()
        .flat_map(|services| services.values_mut())
    {
        let ports = service["ports"].as_array_mut();
        ports
            .into_iter()
            .flatten()
            .for_each(|port| *port = port_shown(port));
        if let Some(service) = service.as_object_mut() {
            service.retain(|_, value| !value.is_null());
        }
    }
    model
}

fn port_shown(port: &Value) -> Value {
    let mut shown = json!({
        "mode": port["PublishMode"],
        "protocol": port["Protocol"],
        "target": port["TargetPort"],
    });
    if let Some(published) = port.get("PublishedPort") {
        shown["published"] = published.clone();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_again_as_the_same() {
        let file =
            json!({"services": {"web": {"image": "a", "ports": ["8080:80"], "command": "x y"}}});
        let model = super::super::normal::model("f.yml", file).unwrap();
        let again = super::super::normal::model("f.yml", shown(model.clone())).unwrap();
        assert_eq!(again["services"], model["services"]);
    }
}
