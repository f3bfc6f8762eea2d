"""Which known issues do these versions fall into? Reads files and the ledger; needs no torch and no network.

packages    what a project asks for: a version or a range of each package, with its place
windows     whether a range allows a version of a window
hits        the issues of a project, by what they do to its training
ignores     issues that a project has decided to accept, with reason and expiry
answer_json, github, sarif, terminal         the answer in the form that its reader needs
advisories  the ledger as OSV files, for vulnerability scanners
"""
