"""How each kind of server is asked, and what it answers: requests and replies, without sockets."""
