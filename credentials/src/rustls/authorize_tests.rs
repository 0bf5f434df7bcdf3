use super::*;

const OWN: &str = "spiffe://td.example/ns/shop/sa/cart";

fn lets_in(rule: &impl Authorize, peer: &str) -> bool {
    rule.authorize(&SpiffeId::new(OWN).unwrap(), &SpiffeId::new(peer).unwrap())
}

#[test]
fn each_rule_lets_in_whom_it_names_and_nobody_else() {
    let same = "spiffe://td.example/ns/shop/sa/till";
    let near = "spiffe://td.example/ns/bank/sa/till";
    let nested = "spiffe://td.example/ns/shop/sa/till/more";
    let far = "spiffe://partner.example/ns/shop/sa/till";
    let shape = "spiffe://td.example/shop/till";
    let peers = [OWN, same, near, nested, far, shape];
    let table: [(Rule, [bool; 6]); 5] = [
        (id(same).unwrap(), [false, true, false, false, false, false]),
        (
            any_of([near, far]).unwrap(),
            [false, false, true, false, true, false],
        ),
        (
            namespace("shop").unwrap(),
            [true, true, false, false, false, false],
        ),
        (same_trust_domain(), [true, true, true, true, false, true]),
        (
            trust_domains(["partner.example"]).unwrap(),
            [false, false, false, false, true, false],
        ),
    ];
    for (rule, expected) in table {
        assert_eq!(peers.map(|peer| lets_in(&rule, peer)), expected, "{rule:?}");
    }
}

#[test]
fn closures_are_rules() {
    let rule = |peer: &SpiffeId| peer.path().ends_with("/till");
    assert!(lets_in(&rule, "spiffe://td.example/ns/shop/sa/till"));
    assert!(!lets_in(&rule, "spiffe://td.example/ns/shop/sa/cart"));
    assert!(rule.describe().contains("application's rule"));
}

#[test]
fn what_is_no_rule_is_refused_when_it_is_made() {
    assert!(matches!(id("https://x/y"), Err(RuleError::Id { .. })));
    assert!(matches!(
        id("spiffe://td.example"),
        Err(RuleError::NoPath { .. })
    ));
    assert!(matches!(any_of::<[&str; 0]>([]), Err(RuleError::Empty)));
    assert!(matches!(
        trust_domains::<[&str; 0]>([]),
        Err(RuleError::Empty)
    ));
    assert!(matches!(
        trust_domains(["TD EXAMPLE"]),
        Err(RuleError::TrustDomain { .. })
    ));
    for name in ["", ".", "..", "a/b", "a b", "é"] {
        assert!(
            matches!(namespace(name), Err(RuleError::Namespace { .. })),
            "{name}"
        );
    }
}

#[test]
fn a_rule_says_what_it_is_and_keeps_a_long_list_short() {
    let many = (0..7).map(|n| format!("spiffe://td.example/ns/shop/sa/{n}"));
    let text = any_of(many).unwrap().describe().into_owned();
    assert!(
        text.contains("sa/4") && text.ends_with("and 2 more"),
        "{text}"
    );
    let text = namespace("shop").unwrap().describe().into_owned();
    assert!(text.contains("namespace shop"), "{text}");
}
