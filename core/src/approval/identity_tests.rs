use super::{Reason, testing::*};

#[test]
fn a6_the_uri_is_the_spiffe_id_of_a_workload_of_this_cluster_in_its_one_spelling() {
    let long = format!("spiffe://example.org/ns/{}/sa/cart", "a".repeat(64));
    let longer = format!("spiffe://example.org/ns/shop/sa/{}", "a".repeat(254));
    for (id, snippet) in [
        ("", "it is none"),
        ("https://example.org/ns/shop/sa/cart", "it is none"),
        ("spiffe://example.org/ns/shop/sa/cart?x=1", "it is none"),
        ("spiffe://example.org/ns/shop/sa/cart#x", "it is none"),
        ("spiffe://example.org/ns/shop/sa/c%61rt", "it is none"),
        ("spiffe://example.org:443/ns/shop/sa/cart", "it is none"),
        ("spiffe://example.org/ns/shop/sa/cart/", "it is none"),
        ("spiffe://example.org/ns/shop/sa/../sa/cart", "it is none"),
        ("spiffe://EXAMPLE.org/ns/shop/sa/cart", "not in lower case"),
        ("SPIFFE://example.org/ns/shop/sa/cart", "not in lower case"),
        (
            "spiffe://example.com/ns/shop/sa/cart",
            "of another trust domain",
        ),
        (
            "spiffe://sub.example.org/ns/shop/sa/cart",
            "of another trust domain",
        ),
        ("spiffe://example.org", "its path has another form"),
        ("spiffe://example.org/ns/shop", "its path has another form"),
        (
            "spiffe://example.org/sa/cart/ns/shop",
            "its path has another form",
        ),
        (
            "spiffe://example.org/ns/shop/sa/cart/x",
            "its path has another form",
        ),
        (
            "spiffe://example.org/x/ns/shop/sa/cart",
            "its path has another form",
        ),
        (
            "spiffe://example.org/ns/Shop/sa/cart",
            "its namespace has no name",
        ),
        (
            "spiffe://example.org/ns/a.b/sa/cart",
            "its namespace has no name",
        ),
        (&long, "its namespace has no name"),
        (
            "spiffe://example.org/ns/shop/sa/Cart",
            "its service account has no name",
        ),
        (
            "spiffe://example.org/ns/shop/sa/c_t",
            "its service account has no name",
        ),
        (&longer, "its service account has no name"),
    ] {
        denied(&csr(|parts| parts.name(id)), Reason::WrongIdentity, snippet);
    }
    let most = format!("{}.{}", "a".repeat(100), "b".repeat(152));
    let id = format!("spiffe://example.org/ns/{}/sa/{most}", "n".repeat(63));
    let wanted = check(&csr(|parts| parts.name(&id))).unwrap();
    assert_eq!(wanted.service_account(), most);
}
