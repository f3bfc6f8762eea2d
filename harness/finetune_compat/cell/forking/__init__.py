"""Workers that are forked from a process that has imported the stack, instead of importing it again.

client   what execnet starts in place of a worker's interpreter
server   the process that has imported the stack
workers  starts the server from xdist's controller, and adds workers
"""
