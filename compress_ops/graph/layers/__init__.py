"""What a layer is, once for all passes: an operator with stored weights, how it reads them, and why it may stay.

``weights``   which inputs hold weights, by operator; what reads a stored weight
``view``      a stored weight as [groups, outputs, inputs, taps], whatever the operator stores
``reasons``   why a weight cannot be used, one sentence a fact; a pass names the facts that it minds
``scaling``   channels scaled by changing weights, lazily
"""
