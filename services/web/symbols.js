// What LaTeX's commands without arguments look like.

const of = (tag, text) => Object.fromEntries(text.trim().split(/\s+/).map((pair) => {
  const [name, sign] = pair.split(":");
  return [name, [tag, sign]];
}));

export const SYMBOLS = {
  ...of("mi", `
    alpha:α beta:β gamma:γ delta:δ epsilon:ϵ varepsilon:ε zeta:ζ eta:η theta:θ vartheta:ϑ iota:ι
    kappa:κ lambda:λ mu:μ nu:ν xi:ξ pi:π rho:ρ sigma:σ tau:τ upsilon:υ phi:ϕ varphi:φ chi:χ psi:ψ
    omega:ω Gamma:Γ Delta:Δ Theta:Θ Lambda:Λ Xi:Ξ Pi:Π Sigma:Σ Phi:Φ Psi:Ψ Omega:Ω infty:∞ ell:ℓ
    partial:∂ nabla:∇ emptyset:∅ varnothing:∅ ldots:… dots:… cdots:⋯ vdots:⋮ ddots:⋱ circ:∘
    degree:° angle:∠ triangle:△ square:□ Re:ℜ Im:ℑ hbar:ℏ forall:∀ exists:∃ top:⊤ bot:⊥
    $:$ %:% #:# &:& _:_`),
  ...of("mo", `
    times:× cdot:⋅ div:÷ pm:± mp:∓ ast:∗ star:⋆ le:≤ leq:≤ leqslant:≤ ge:≥ geq:≥ geqslant:≥ ne:≠
    neq:≠ equiv:≡ approx:≈ sim:∼ simeq:≃ cong:≅ propto:∝ ll:≪ gg:≫ lt:< gt:> in:∈ notin:∉ ni:∋
    subset:⊂ subseteq:⊆ supset:⊃ supseteq:⊇ cup:∪ cap:∩ setminus:∖ land:∧ wedge:∧ lor:∨ vee:∨
    neg:¬ lnot:¬ to:→ rightarrow:→ leftarrow:← Rightarrow:⇒ implies:⇒ Leftarrow:⇐ iff:⇔
    Leftrightarrow:⇔ mapsto:↦ mid:∣ nmid:∤ parallel:∥ perp:⊥ sum:∑ prod:∏ int:∫ oint:∮ bigcup:⋃
    bigcap:⋂ lfloor:⌊ rfloor:⌋ lceil:⌈ rceil:⌉ langle:⟨ rangle:⟩ vert:| Vert:‖ |:‖ {:{ }:}
    prime:′ colon:∶ therefore:∴ because:∵ oplus:⊕ otimes:⊗ bullet:•`),
};

export const STRETCHY = {
  "{": "{", "}": "}", "|": "‖", vert: "|", Vert: "‖", lfloor: "⌊", rfloor: "⌋", lceil: "⌈",
  rceil: "⌉", langle: "⟨", rangle: "⟩", lbrace: "{", rbrace: "}",
};

export const FUNCTIONS = new Set(
  "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp lim max min sup inf gcd lcm det dim ker deg arg mod bmod Pr".split(" "),
);

export const TEXTUAL = new Set(
  "text textbf textit textrm mathrm mathbf mathit mathsf mathtt mathcal mathbb operatorname mbox boldsymbol".split(" "),
);

export const ACCENTS = {
  hat: "^", widehat: "^", bar: "¯", overline: "¯", vec: "→", overrightarrow: "→", dot: "˙",
  ddot: "¨", tilde: "~", widetilde: "~",
};

export const SPACES = {
  ",": "0.17em", ":": "0.22em", ";": "0.28em", "!": "-0.17em", " ": "0.3em", quad: "1em",
  qquad: "2em", thinspace: "0.17em",
};
