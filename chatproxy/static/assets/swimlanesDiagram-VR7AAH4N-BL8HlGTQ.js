import{r as e,t}from"./chunk-SHT3W25Y-C4V_7i7N.js";import"./chunk-POPQ4Y6H-CV0VTD1-.js";import"./chunk-LNGE3PJU-DRjopGY8.js";import"./chunk-TLUHSLCS-BurWNvWa.js";import"./chunk-F27PBJKO-COH5tXQ-.js";import"./chunk-L3NEJ4N5-xiLnzQ2P.js";import"./chunk-OSK3NFVY-QhA6qj-w.js";import"./chunk-GVQU2GXP-CVjV1JjR.js";import"./chunk-4HAMMTFA-BtbuMVD3.js";import"./chunk-P2QGCYS3-Uk8099bd.js";import"./chunk-GMAD6QVW-BnfmTwUE.js";import"./chunk-PWAF6VOD-4dGzO2lF.js";import"./chunk-75Z2AOVW-_FVq9Q4e.js";import"./chunk-DU6HZSFF-BCtFK0_0.js";import"./d3-selection-CQOeqU2O.js";import{n}from"./chunk-Y2CYZVJY-DsF7k-Jl.js";var r=t({defaultLayout:`swimlane`,styles:n(t=>`${e(t)}
  .swimlane.cluster rect {
    stroke: ${t.clusterBorder} !important;
  }
  [data-look="neo"].cluster rect {
    filter: none;
  }
`,`getStyles`)});export{r as diagram};